"""The life of a run: accepted by the service, executed by the runner, written by the journal, read as a stream."""
