"""The PostgreSQL that a command starts for itself where no `DATABASE_URL` is given.

`cluster` has the one function that commands call; `ownership` decides who starts the server and who joins; `server` runs
its programs, `sockets` finds a place for its socket, none of which outlives us.
"""
