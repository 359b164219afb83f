-- no-transaction
-- The first place in an agent's line.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_held_ranks ON sessions (held_for, held_rank) WHERE held_for IS NOT NULL;
