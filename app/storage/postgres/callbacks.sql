-- name: claim
-- Take the delivery that is due longest, and put it out of everybody else's sight until the returned time.
-- $1 seconds  $2 hosts that have enough for now
UPDATE callbacks SET attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => $1)
WHERE run_id = (
    SELECT run_id FROM callbacks
    WHERE status = 'due' AND next_at <= statement_timestamp()
        AND (cardinality($2::text[]) = 0 OR NOT lower(substring(url FROM '^[^:]*://([^/?#]*)')) = ANY ($2))
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING run_id, tenant, url, attempts AS attempt, next_at AS claim;

-- name: lock
-- Attempts of one run are logged one after another.
SELECT tenant, owner FROM callbacks WHERE run_id = $1 FOR UPDATE;

-- name: log
-- One attempt under the next number; it began that many milliseconds ago.
-- $1 run  $2 tenant  $3 owner  $4 milliseconds  $5 HTTP status  $6 error
INSERT INTO callback_attempts (run_id, number, tenant, owner, at, duration_ms, status, error)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3, clock_timestamp() - make_interval(secs => $4::float8 / 1000), $4, $5, $6
FROM callback_attempts WHERE run_id = $1;

-- name: settle
-- What follows an attempt, if the claim still holds.
-- $1 run  $2 claim  $3 status  $4 seconds to the next attempt
UPDATE callbacks SET status = $3, next_at = clock_timestamp() + make_interval(secs => $4)
WHERE run_id = $1 AND status = 'due' AND next_at = $2;

-- name: give_back
-- A claim that was not used.
UPDATE callbacks SET attempts = attempts - 1, next_at = clock_timestamp()
WHERE run_id = $1 AND status = 'due' AND next_at = $2;

-- name: callback
-- One run's callback, with each of its attempts; with one empty one where there was none yet.
SELECT c.url, c.status AS callback_status, c.next_at, a.number, a.at, a.duration_ms, a.status, a.error
FROM callbacks c LEFT JOIN callback_attempts a USING (run_id)
WHERE c.run_id = $1 AND c.tenant = $2 AND ($3::text IS NULL OR c.owner = $3)
ORDER BY a.number;

-- name: replay
-- Due again from the beginning, once its run has ended.
UPDATE callbacks SET status = 'due', attempts = 0, next_at = clock_timestamp()
WHERE run_id = $1 AND tenant = $2 AND ($3::text IS NULL OR owner = $3) AND status <> 'waiting';

-- name: make_secret
-- The first of several replicas wins.
INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: secret
-- A secret that was made.
SELECT value FROM secrets WHERE name = $1;
