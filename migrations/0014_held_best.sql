-- no-transaction
-- What waits for an agent to have room: each tenant's best. Built beside what goes on: a partial index reads its whole table, too.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_held_best
ON sessions (held_for, tenant, ready_priority DESC, held_rank) WHERE held_for IS NOT NULL;
