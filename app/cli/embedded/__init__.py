"""The PostgreSQL that a command starts for itself where no `DATABASE_URL` is given.

`cluster` has the one function that commands call; `ownership` decides who starts the server and who joins; `server` runs
its programs; `launcher` is the script through which every program is started, so that none outlives us.
"""
