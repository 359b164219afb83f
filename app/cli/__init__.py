"""One file per command, and what a command needs of the machine: the embedded PostgreSQL, signals, processes."""
