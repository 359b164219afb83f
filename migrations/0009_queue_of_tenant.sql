-- no-transaction
-- The queue in the order of its tenants. Built beside what goes on: a partial index reads its whole table, too.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_queue_of_tenant
ON sessions (tenant, ready_priority DESC, ready_rank) WHERE ready_rank IS NOT NULL;
