-- name: take
-- Begin a request under its key: the first to say so, and the next after a lock ran out, get a row back. A key older than
-- its lifetime is as good as new. A row that names a run holds the answer there: whoever comes may look.
-- $1 tenant  $2 user  $3 method  $4 path  $5 key  $6 fingerprint  $7 seconds  $8 lifetime in seconds
INSERT INTO idempotency_keys AS k (tenant, owner, method, path, key, fingerprint, locked_until)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
ON CONFLICT (tenant, owner, method, path, key) DO UPDATE
SET fingerprint = excluded.fingerprint, locked_until = excluded.locked_until, status = NULL, response = NULL,
    created_at = CASE WHEN k.created_at < clock_timestamp() - make_interval(secs => $8) THEN clock_timestamp() ELSE k.created_at END,
    run_id = CASE WHEN k.created_at < clock_timestamp() - make_interval(secs => $8) THEN NULL ELSE k.run_id END
WHERE k.created_at < clock_timestamp() - make_interval(secs => $8)
    OR (k.fingerprint = excluded.fingerprint AND k.status IS NULL AND coalesce(k.locked_until, '-infinity') <= clock_timestamp())
RETURNING key;

-- name: kept
-- What is known of a key.
SELECT fingerprint, status, response FROM idempotency_keys
WHERE tenant = $1 AND owner = $2 AND method = $3 AND path = $4 AND key = $5;

-- name: keep
-- The answer; the first one that is kept stays. The row is made anew where another caller's refusal took it away.
-- $1 to $6 as in take  $7 status  $8 response
INSERT INTO idempotency_keys AS k (tenant, owner, method, path, key, fingerprint, status, response)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, owner, method, path, key) DO UPDATE
SET status = excluded.status, response = excluded.response, locked_until = NULL
WHERE k.fingerprint = excluded.fingerprint AND k.status IS NULL;

-- name: drop
-- A key whose request was refused.
DELETE FROM idempotency_keys
WHERE tenant = $1 AND owner = $2 AND method = $3 AND path = $4 AND key = $5 AND fingerprint = $6
    AND status IS NULL AND run_id IS NULL;

-- name: sweep
-- Forget some of the keys that are older than $1 seconds.
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM idempotency_keys WHERE created_at < statement_timestamp() - make_interval(secs => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
));
