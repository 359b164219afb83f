-- name: create
-- Keep a key, count the change, and write it down in its tenant's audit log: all of it, or nothing where the key is known already.
-- $1 id  $2 tenant  $3 owner  $4 digest  $5 scopes  $6 free_form  $7 expires_at  $8 actor  $9 actor's user  $10 detail
WITH made AS (
    INSERT INTO api_keys (id, tenant, owner, digest, scopes, free_form, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT DO NOTHING
    RETURNING *
), changed AS (
    UPDATE key_changes SET changes = changes + 1 FROM made
), told AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT tenant, $8, $9, 'key.created', id, $10 FROM made
)
SELECT id, tenant, owner AS user_id, scopes, created_at, expires_at, revoked_at, last_used_at FROM made;

-- name: by_digest
-- A key, whether or not it may be used.
SELECT id, tenant, owner AS user_id, scopes, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE digest = $1;

-- name: keys
-- All keys, newest first. $1 tenant, or NULL for all of them
SELECT id, tenant, owner AS user_id, scopes, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE $1::text IS NULL OR tenant = $1 ORDER BY created_at DESC, id DESC;

-- name: revoke
-- The key may not be used any more, which is counted and written down. No row: it was revoked before, or there is none.
-- $1 id  $2 actor  $3 actor's user
WITH gone AS (
    UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL
    RETURNING *
), changed AS (
    UPDATE key_changes SET changes = changes + 1 FROM gone
), told AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT tenant, $2, $3, 'key.revoked', id, '{}' FROM gone
)
SELECT id, tenant, owner AS user_id, scopes, created_at, expires_at, revoked_at, last_used_at FROM gone;

-- name: key
-- One key.
SELECT id, tenant, owner AS user_id, scopes, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE id = $1;

-- name: state
-- How often the keys have changed, and the digests of those whose looks tell nothing.
SELECT changes, ARRAY(SELECT digest FROM api_keys WHERE free_form AND revoked_at IS NULL) AS free_form FROM key_changes;

-- name: valid
-- Those of many keys that may be used, and for how many seconds more. $1 digests
SELECT digest, id, tenant, owner AS user_id, scopes, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds
FROM api_keys
WHERE digest = ANY($1::bytea []) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp());

-- name: usable
-- How many keys may be used.
SELECT count(*) FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp());

-- name: used
-- Keys were used that many seconds ago. Another process may have said so a moment before. $1 ids  $2 seconds
UPDATE api_keys SET last_used_at = used.at
FROM (
    SELECT u.id, clock_timestamp() - make_interval(secs => u.age) AS at
    FROM unnest($1::text[], $2::float8[]) AS u (id, age)
) AS used
WHERE api_keys.id = used.id AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < used.at);
