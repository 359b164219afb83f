-- name: approvals
-- A page of approvals, newest first.
SELECT a.id, a.run_id, r.session_id, r.agent, a.owner AS user_id, a.call_id, a.tool, a.arguments, a.digest, a.risk, a.grounds,
    a.status, a.created_at, a.expires_at, a.resolved_at, a.resolved_by, a.resolved_actor, a.comment, a.edited
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.tenant = $1 AND ($2::text IS NULL OR a.owner = $2)
    AND ($3::text IS NULL OR a.status = $3) AND ($4::text IS NULL OR a.run_id = $4)
    AND ($5::text IS NULL OR r.agent = $5) AND ($6::text IS NULL OR a.tool = $6) AND ($7::text IS NULL OR a.risk = $7)
    AND ($8::timestamptz IS NULL OR (a.created_at, a.id) < ($8, $9::text))
ORDER BY a.created_at DESC, a.id DESC LIMIT $10;

-- name: approval
-- One approval.
SELECT a.id, a.run_id, r.session_id, r.agent, a.owner AS user_id, a.call_id, a.tool, a.arguments, a.digest, a.risk, a.grounds,
    a.status, a.created_at, a.expires_at, a.resolved_at, a.resolved_by, a.resolved_actor, a.comment, a.edited
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.tenant = $1 AND ($2::text IS NULL OR a.owner = $2) AND a.id = $3;

-- name: session_of
-- Lock the session of an approval's run, before the run and the approval.
SELECT r.id AS run_id FROM approvals a JOIN runs r ON r.id = a.run_id
JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id
WHERE a.id = $1 FOR UPDATE OF s;

-- name: resolve
-- Decide a pending approval of a waiting run, once; the run is queued when no other is pending. The audit log has no arguments.
-- $1 approval  $2 status  $3 by  $4 comment  $5 edited  $6 event id  $7 event  $8 actor  $9 digest of what the word is about now
WITH decided AS (
    UPDATE approvals a SET status = $2, resolved_at = clock_timestamp(), resolved_by = $3, comment = $4, edited = $5,
        resolved_actor = $8
    FROM runs r
    WHERE a.id = $1 AND a.status = 'pending' AND r.id = a.run_id AND r.status = 'waiting'
        AND ($2 = 'expired' OR a.expires_at > statement_timestamp())
    RETURNING a.run_id, a.tenant, a.tool, a.risk, a.digest, extract(epoch FROM a.resolved_at - a.created_at)::float8 AS age
), run AS (
    UPDATE runs SET last_seq = last_seq + 1, lease_epoch = lease_epoch + 1,
        status = CASE WHEN more.pending THEN 'waiting' ELSE 'queued' END,
        queued_at = CASE WHEN more.pending THEN queued_at ELSE clock_timestamp() END
    FROM decided, LATERAL (
        SELECT EXISTS (
            SELECT FROM approvals o WHERE o.run_id = decided.run_id AND o.status = 'pending' AND o.id <> $1
        ) AS pending
    ) AS more
    WHERE runs.id = decided.run_id
    RETURNING runs.id, runs.last_seq, runs.status, runs.tenant, runs.owner, runs.session_id
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT run.id, run.last_seq, run.tenant, run.owner, $6::uuid, 'approval.resolved', $7::json FROM run
), session AS (
    UPDATE sessions s SET ready_rank = coalesce(s.ready_rank, front_rank())
    FROM run WHERE run.status = 'queued' AND s.tenant = run.tenant AND s.id = run.session_id
), audited AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT tenant, $8::text, $3::text, 'approval.' || $2::text, $1::text, json_build_object(
        'run_id', run_id, 'tool', tool, 'risk', risk, 'digest', coalesce($9::text, digest), 'edited', $5::json IS NOT NULL
    ) FROM decided
)
SELECT run.id AS run_id, run.status = 'queued' AS queued, decided.risk, decided.age FROM run, decided;

-- name: expired
-- Approvals that nobody decided on in time.
SELECT id, call_id, tool AS name, arguments, risk, expires_at FROM approvals
WHERE status = 'pending' AND expires_at <= statement_timestamp() ORDER BY expires_at LIMIT $1;

-- name: pending
-- How many wait for a person, and for how long the oldest has.
SELECT count(*)::integer AS waiting, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS age
FROM approvals WHERE status = 'pending';
