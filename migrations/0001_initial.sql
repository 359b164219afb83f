-- Sessions, runs and the journal. Every row belongs to a tenant, and to a user (owner) where one is known.

CREATE TABLE agent_versions (
    tenant text NOT NULL,
    owner text,
    version text NOT NULL,
    name text NOT NULL,
    definition json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, name, version)
);

CREATE TABLE sessions (
    tenant text NOT NULL,
    id text NOT NULL,
    owner text,
    epoch integer NOT NULL DEFAULT 1,
    turns integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, id)
);
COMMENT ON COLUMN sessions.epoch IS 'a reset begins the next one; history is the runs of the current one';
COMMENT ON COLUMN sessions.turns IS 'how many runs it ever took: gives each its turn';

CREATE INDEX sessions_by_time ON sessions (tenant, updated_at DESC, id DESC);

CREATE TABLE runs (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    owner text,
    session_id text NOT NULL,
    session_epoch integer NOT NULL,
    turn integer NOT NULL,
    agent text NOT NULL,
    agent_version text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    stop_reason text,
    tags json NOT NULL,
    output json,
    error json,
    degraded boolean NOT NULL DEFAULT false,
    cached boolean NOT NULL DEFAULT false,
    iterations integer NOT NULL DEFAULT 0,
    usage json,
    cost_usd numeric,
    resumed_from text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    last_seq integer NOT NULL,
    traceparent text,
    answer_by timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    FOREIGN KEY (tenant, session_id) REFERENCES sessions (tenant, id) ON DELETE CASCADE,
    UNIQUE (tenant, session_id, turn)
);
COMMENT ON COLUMN runs.lease_epoch IS 'the fence: a write with an older epoch stores nothing';
COMMENT ON COLUMN runs.last_seq IS 'the seq of the last event of its journal';
COMMENT ON COLUMN runs.answer_by IS 'when the caller stops waiting for the answer';

-- The net under turn order: whatever goes wrong, a session never runs two runs at once.
CREATE UNIQUE INDEX runs_one_running ON runs (tenant, session_id) WHERE status = 'running';
CREATE INDEX runs_live ON runs (tenant, session_id, turn) WHERE status IN ('queued', 'running', 'waiting');
CREATE INDEX runs_queue ON runs (created_at) WHERE status = 'queued';
CREATE INDEX runs_running ON runs (id) WHERE status = 'running';
CREATE INDEX runs_by_time ON runs (tenant, created_at DESC, id DESC);

CREATE TABLE events (
    run_id text NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq integer NOT NULL,
    tenant text NOT NULL,
    owner text,
    id uuid NOT NULL,
    name text NOT NULL,
    payload json NOT NULL,
    private json,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, seq)
);
COMMENT ON COLUMN events.payload IS 'the bytes that every reader gets; json, because jsonb rewrites them';
COMMENT ON COLUMN events.private IS 'what only the service reads back, such as a provider''s own items of a message';
