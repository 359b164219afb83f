-- API keys, of which only digests are kept, and how often they changed.

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    owner text,
    digest bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    free_form boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
COMMENT ON COLUMN api_keys.owner IS 'the user whose rows it sees; NULL: all of the tenant';
COMMENT ON COLUMN api_keys.digest IS 'SHA-256 of the key; the key itself is nowhere';
COMMENT ON COLUMN api_keys.free_form IS 'an operator wrote it, so its looks do not tell that it is a key';
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, created_at DESC, id DESC);
CREATE INDEX api_keys_free_form ON api_keys (id) WHERE free_form AND revoked_at IS NULL;

CREATE TABLE key_changes (
    singular boolean PRIMARY KEY DEFAULT true CHECK (singular),
    changes bigint NOT NULL
);
COMMENT ON COLUMN key_changes.changes IS 'grows with every key that is made or revoked; 0: there never was one';
INSERT INTO key_changes (changes) VALUES (0);
