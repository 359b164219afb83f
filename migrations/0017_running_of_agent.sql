-- no-transaction
-- What is being executed, by agent; it serves what runs_running served, too.
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_running_of_agent ON runs (agent, id) WHERE status = 'running';
