-- name: base
-- What a fork began with, messages alone or with placeholders; nothing after a reset.
SELECT base FROM sessions WHERE tenant = $1 AND id = $2 AND epoch = $3;

-- name: history
-- The events that make the messages of a session's earlier runs; a run that another has resumed is in that one's journal,
-- but for the values of its placeholders, which are the session's.
SELECT e.run_id, e.seq, e.name, e.payload, e.private
FROM runs r JOIN events e ON e.run_id = r.id
WHERE r.tenant = $1 AND r.session_id = $2 AND r.session_epoch = $3 AND r.turn < $4
    AND e.name IN ('run.created', 'message.completed', 'message.reset', 'approval.resolved', 'tool.finished',
        'context.compacted', 'context.redacted')
    AND r.not_before IS NULL
    AND (e.name = 'context.redacted' OR NOT EXISTS (SELECT FROM runs n WHERE n.resumed_from = r.id))
ORDER BY r.turn, e.seq;

-- name: session
-- One session.
SELECT id, owner AS user_id, created_at, updated_at, epoch
FROM sessions WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3;

-- name: sessions
-- A page of sessions, latest used first; those of shadow runs are nobody's.
SELECT id, owner AS user_id, created_at, updated_at
FROM sessions
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::timestamptz IS NULL OR (updated_at, id) < ($3, $4::text)) AND shadow_of IS NULL
ORDER BY updated_at DESC, id DESC LIMIT $5;

-- name: live
-- A session's live runs before a turn, delayed ones apart.
SELECT id, status FROM runs
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND session_id = $3 AND turn < $4
    AND status IN ('queued', 'running', 'waiting') AND not_before IS NULL
ORDER BY turn;

-- name: reset
-- Begin the session's next epoch; the runs of the one before that have not ended.
WITH session AS (
    UPDATE sessions SET epoch = nextval('session_epochs'), base = NULL, updated_at = clock_timestamp()
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3
    RETURNING epoch
)
SELECT ARRAY (
    SELECT r.id FROM runs r
    WHERE r.tenant = $1 AND r.session_id = $3 AND r.session_epoch <> session.epoch
        AND r.status IN ('queued', 'running', 'waiting')
    ORDER BY r.turn
) AS live
FROM session;

-- name: delete
-- A session and all that belongs to it.
DELETE FROM sessions WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3;

-- name: fork
-- A session that begins with messages; its first run has turn 2, so that it looks for what was before.
INSERT INTO sessions (tenant, id, owner, turns, base, state) VALUES ($1, $2, $3, 1, $4, $5)
ON CONFLICT DO NOTHING
RETURNING id, owner AS user_id, created_at, updated_at;

-- name: shadow
-- A hidden session for a run's shadow, as a fork, with the state that the run's own session has now.
-- $1 tenant  $2 run  $3 session  $4 what it begins with
INSERT INTO sessions (tenant, id, owner, turns, base, state, shadow_of)
SELECT r.tenant, $3, r.owner, 1, $4, s.state, r.id
FROM runs r JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id
WHERE r.tenant = $1 AND r.id = $2
RETURNING id;

-- name: turn_of
-- Which turn a run was.
SELECT r.turn FROM runs r JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id AND s.epoch = r.session_epoch
WHERE r.tenant = $1 AND ($2::text IS NULL OR r.owner = $2) AND r.session_id = $3 AND r.id = $4;

-- name: state
-- A session's state and how often it was changed.
SELECT state, state_version AS version FROM sessions WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3;

-- name: put_state
-- Replace the state, where it is the version that the caller knows, and (for a tool) its run is still its owner's.
-- $4 state  $5 version or NULL  $6 run or NULL  $7 its epoch
UPDATE sessions SET state = $4, state_version = state_version + 1, updated_at = clock_timestamp()
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3 AND ($5::integer IS NULL OR state_version = $5)
    AND ($6::text IS NULL OR EXISTS (
        SELECT FROM runs WHERE runs.id = $6 AND lease_epoch = $7::bigint AND status = 'running'
    ))
RETURNING state, state_version AS version;
