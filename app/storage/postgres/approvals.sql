-- name: approvals
-- A page of approvals, newest first.
SELECT a.id, a.run_id, r.session_id, r.agent, a.owner AS user_id, a.call_id, a.tool, a.arguments, a.risk, a.status,
    a.created_at, a.expires_at, a.resolved_at, a.resolved_by, a.comment, a.edited
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.tenant = $1 AND ($2::text IS NULL OR a.owner = $2)
    AND ($3::text IS NULL OR a.status = $3) AND ($4::text IS NULL OR a.run_id = $4)
    AND ($5::timestamptz IS NULL OR (a.created_at, a.id) < ($5, $6::text))
ORDER BY a.created_at DESC, a.id DESC LIMIT $7;

-- name: approval
-- One approval.
SELECT a.id, a.run_id, r.session_id, r.agent, a.owner AS user_id, a.call_id, a.tool, a.arguments, a.risk, a.status,
    a.created_at, a.expires_at, a.resolved_at, a.resolved_by, a.comment, a.edited
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.tenant = $1 AND ($2::text IS NULL OR a.owner = $2) AND a.id = $3;

-- name: session_of
-- Lock the session of an approval's run, before the run and the approval.
SELECT r.id AS run_id FROM approvals a JOIN runs r ON r.id = a.run_id
JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id
WHERE a.id = $1 FOR UPDATE OF s;

-- name: resolve
-- Decide a pending approval of a waiting run, once; the run is queued when no other is pending.
-- $1 approval  $2 status  $3 by  $4 comment  $5 edited  $6 event id  $7 event
WITH decided AS (
    UPDATE approvals a SET status = $2, resolved_at = clock_timestamp(), resolved_by = $3, comment = $4, edited = $5
    FROM runs r
    WHERE a.id = $1 AND a.status = 'pending' AND r.id = a.run_id AND r.status = 'waiting'
        AND ($2 = 'expired' OR a.expires_at > statement_timestamp())
    RETURNING a.run_id
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
)
SELECT id AS run_id, last_seq, status = 'queued' AS queued FROM run;

-- name: expired
-- Approvals that nobody decided on in time.
SELECT id, run_id, call_id, tool AS name, arguments, risk, expires_at FROM approvals
WHERE status = 'pending' AND expires_at <= statement_timestamp() ORDER BY expires_at LIMIT $1;
