-- Runs that outlive their process: leases, a queue with sessions as its entries, inboxes, approvals, idempotency keys, callbacks.
-- Its indexes are built in the transaction: no release before this one has tables that are large.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

CREATE SEQUENCE session_epochs AS integer START 1000000 CYCLE;

ALTER TABLE sessions
    ALTER COLUMN epoch SET DEFAULT nextval('session_epochs'),
    ADD COLUMN base json,
    ADD COLUMN state json,
    ADD COLUMN state_version integer NOT NULL DEFAULT 0,
    ADD COLUMN ready_rank bigint,
    ADD COLUMN ready_priority integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN sessions.epoch IS
    'never used twice: a session that was deleted and made again is another one; history is the runs of the current epoch';
COMMENT ON COLUMN sessions.base IS 'the messages that a fork began with';
COMMENT ON COLUMN sessions.ready_rank IS 'its place in the queue; NULL: it has no run that may be claimed, as far as is known';

ALTER TABLE runs
    ADD COLUMN lease_owner text,
    ADD COLUMN lease_until timestamptz,
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN inbox integer NOT NULL DEFAULT 0,
    ADD COLUMN priority integer NOT NULL DEFAULT 0,
    ADD COLUMN not_before timestamptz,
    ADD COLUMN queued_at timestamptz,
    ADD COLUMN stop_after text,
    ADD COLUMN outcome_unknown boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN runs.failures IS 'how many of its owners died';
COMMENT ON COLUMN runs.inbox IS 'how many rows its inbox ever had';
COMMENT ON COLUMN runs.not_before IS 'a delayed run has no place in its session''s line; NULL again from then on';

-- Both are written many times a row: room on the page keeps the indexes out of it.
ALTER TABLE runs SET (fillfactor = 80);
ALTER TABLE sessions SET (fillfactor = 80);

UPDATE runs SET lease_until = clock_timestamp() WHERE status = 'running';
UPDATE runs SET queued_at = created_at WHERE status = 'queued';
UPDATE sessions s SET ready_rank = 1
WHERE EXISTS (SELECT FROM runs r WHERE r.tenant = s.tenant AND r.session_id = s.id AND r.status = 'queued');

CREATE INDEX sessions_queue ON sessions (ready_priority DESC, ready_rank) WHERE ready_rank IS NOT NULL;
CREATE INDEX sessions_ranks ON sessions (ready_rank) WHERE ready_rank IS NOT NULL;
CREATE INDEX sessions_ranks_of_tenant ON sessions (tenant, ready_rank) WHERE ready_rank IS NOT NULL;
DROP INDEX runs_queue;
CREATE INDEX runs_queue ON runs (queued_at) WHERE status = 'queued' AND not_before IS NULL;
CREATE INDEX runs_delayed ON runs (not_before) WHERE status = 'queued' AND not_before IS NOT NULL;
CREATE INDEX runs_resumed ON runs (resumed_from) WHERE resumed_from IS NOT NULL;

CREATE TABLE inbox (
    run_id text NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    n integer NOT NULL,
    tenant text NOT NULL,
    owner text,
    id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('stop', 'message')),
    payload json NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, n),
    UNIQUE (run_id, id)
);
COMMENT ON TABLE inbox IS 'what others want of a run; its owner turns it into events';

CREATE TABLE approvals (
    id text PRIMARY KEY,
    run_id text NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    tenant text NOT NULL,
    owner text,
    call_id text NOT NULL,
    tool text NOT NULL,
    arguments json NOT NULL,
    digest text NOT NULL,
    risk text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'approved', 'denied', 'expired', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    comment text,
    edited json,
    UNIQUE (run_id, call_id)
);
CREATE INDEX approvals_by_time ON approvals (tenant, created_at DESC, id DESC);
CREATE INDEX approvals_expiring ON approvals (expires_at) WHERE status = 'pending';

CREATE TABLE idempotency_keys (
    tenant text NOT NULL,
    owner text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    run_id text,
    status integer,
    response json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    locked_until timestamptz,
    PRIMARY KEY (tenant, owner, method, path, key),
    CONSTRAINT idempotency_keys_run FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
COMMENT ON COLUMN idempotency_keys.owner IS 'the caller''s user; empty where it has none';
COMMENT ON COLUMN idempotency_keys.response IS 'the answer of a call that makes no run';
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_of_run ON idempotency_keys (run_id) WHERE run_id IS NOT NULL;

CREATE TABLE callbacks (
    run_id text PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    tenant text NOT NULL,
    owner text,
    url text NOT NULL,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'due', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN callbacks.status IS 'waiting: for the run''s end';
CREATE INDEX callbacks_due ON callbacks (next_at) WHERE status = 'due';

CREATE TABLE callback_attempts (
    run_id text NOT NULL REFERENCES callbacks (run_id) ON DELETE CASCADE,
    number integer NOT NULL,
    tenant text NOT NULL,
    owner text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms double precision NOT NULL,
    status integer,
    error text,
    PRIMARY KEY (run_id, number)
);
COMMENT ON COLUMN callback_attempts.status IS 'the HTTP status of the answer; NULL: there was none';

CREATE TABLE secrets (
    name text PRIMARY KEY,
    value text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE secrets IS 'what the service made for itself and every replica must share';
