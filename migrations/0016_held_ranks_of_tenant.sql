-- no-transaction
-- A tenant's last place in an agent's line.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_held_ranks_of_tenant
ON sessions (held_for, tenant, held_rank) WHERE held_for IS NOT NULL;
