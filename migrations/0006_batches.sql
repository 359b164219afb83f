-- Batches: many model calls that nobody waits for, in parts that are batches at a provider.

CREATE TABLE batches (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    owner text,
    agent text NOT NULL,
    agent_version text NOT NULL,
    route text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'submitting', 'in_progress', 'collecting', 'cancelling', 'ended', 'cancelled', 'failed')
    ),
    tags json NOT NULL,
    items integer NOT NULL,
    succeeded integer NOT NULL DEFAULT 0,
    errored integer NOT NULL DEFAULT 0,
    expired integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    usage json,
    cost_usd numeric NOT NULL DEFAULT 0,
    unpriced boolean NOT NULL DEFAULT false,
    error json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    cancelled_at timestamptz,
    finished_at timestamptz
);
COMMENT ON COLUMN batches.unpriced IS 'the price of some answer is not known: cost_usd is what the others cost';
CREATE INDEX batches_by_time ON batches (tenant, created_at DESC, id DESC);
CREATE INDEX batches_open ON batches (tenant) WHERE finished_at IS NULL;

CREATE TABLE batch_parts (
    id text PRIMARY KEY,
    batch_id text NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    tenant text NOT NULL,
    owner text,
    status text NOT NULL DEFAULT 'due'
        CHECK (status IN ('due', 'submitting', 'in_progress', 'collecting', 'ended')),
    epoch bigint NOT NULL DEFAULT 0,
    claimed boolean NOT NULL DEFAULT false,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 0,
    items integer NOT NULL,
    marker text,
    remote_id text,
    told boolean NOT NULL DEFAULT false,
    failed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN batch_parts.epoch IS 'the fence: a write with an older epoch stores nothing';
COMMENT ON COLUMN batch_parts.next_at IS 'when it is anybody''s to work on: due, or the end of a claim';
COMMENT ON COLUMN batch_parts.told IS 'the provider was told to cancel it';
COMMENT ON COLUMN batch_parts.failed IS 'none of it could be done';
COMMENT ON COLUMN batch_parts.marker IS 'what the provider had before the part was sent: what it is looked for after';
CREATE INDEX batch_parts_due ON batch_parts (next_at) WHERE status <> 'ended';
CREATE INDEX batch_parts_of_batch ON batch_parts (batch_id);

CREATE TABLE batch_items (
    batch_id text NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    n integer NOT NULL,
    tenant text NOT NULL,
    owner text,
    part_id text NOT NULL REFERENCES batch_parts (id) ON DELETE CASCADE,
    custom_id text NOT NULL,
    input json NOT NULL,
    context json,
    tags json NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'succeeded', 'errored', 'expired', 'cancelled')),
    sent integer NOT NULL DEFAULT 1,
    otherwise text,
    output json,
    stop text,
    error json,
    usage json,
    cost_usd numeric,
    finished_at timestamptz,
    PRIMARY KEY (batch_id, n),
    UNIQUE (batch_id, custom_id)
);
COMMENT ON COLUMN batch_items.sent IS 'how many parts it has travelled in';
COMMENT ON COLUMN batch_items.otherwise IS 'the outcome of an item that may be sent again, if it is not';
CREATE INDEX batch_items_pending ON batch_items (part_id, n) WHERE status = 'pending';
