-- no-transaction
-- runs_running_of_agent has the same rows.
DROP INDEX CONCURRENTLY IF EXISTS runs_running;
