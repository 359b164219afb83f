-- name: save_agent
-- Keep an agent's definition under its version; a second time changes nothing.
INSERT INTO agent_versions (tenant, version, name, definition) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: agent
-- A kept definition.
SELECT definition FROM agent_versions WHERE tenant = $1 AND name = $2 AND version = $3;

-- name: start
-- Accept a run: session (created if missing), its next turn, the run and its first events.
-- $1 tenant  $2 principal's user  $3 session  $4 owner  $5 run  $6 agent  $7 agent_version  $8 tags
-- $9 slot  $10 seconds to answer  $11 traceparent  $12 event id  $13 run.created  $14 event id  $15 run.started
-- A statement that waited for the session's row does not see the turn before it among the runs, but sees by the session's
-- count of turns that there was one: such a run is queued, or it would overtake.
-- No row: the session is another user's. A unique violation on runs_one_running: somebody else of the session
-- began at the same moment; say it again.
WITH session AS (
    INSERT INTO sessions AS s (tenant, id, owner, turns) VALUES ($1, $3, $4, 1)
    ON CONFLICT (tenant, id) DO UPDATE
    SET turns = s.turns + 1, owner = coalesce(s.owner, excluded.owner), updated_at = clock_timestamp()
    WHERE ($2::text IS NULL OR s.owner = $2) AND (s.owner IS NULL OR $4::text IS NULL OR s.owner = $4)
    RETURNING s.owner, s.epoch, s.turns
), run AS (
    INSERT INTO runs (
        id, tenant, owner, session_id, session_epoch, turn, agent, agent_version, tags, traceparent,
        created_at, answer_by, status, lease_epoch, attempt, last_seq, started_at
    )
    SELECT $5, $1, session.owner, $3, session.epoch, session.turns, $6, $7, $8, $11,
        born.at, born.at + make_interval(secs => $10),
        CASE WHEN born.running THEN 'running' ELSE 'queued' END,
        born.running::integer, born.running::integer, 1 + born.running::integer,
        CASE WHEN born.running THEN born.at END
    FROM session, LATERAL (
        SELECT clock_timestamp() AS at, $9 AND (session.turns = 1 OR EXISTS (
            SELECT FROM sessions s WHERE s.tenant = $1 AND s.id = $3 AND s.turns = session.turns - 1
        ) AND NOT EXISTS (
            SELECT FROM runs r
            WHERE r.tenant = $1 AND r.session_id = $3 AND r.status IN ('queued', 'running', 'waiting')
        )) AS running
    ) AS born
    RETURNING status, turn, session_epoch, lease_epoch, last_seq, owner
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT $5, 1, $1, run.owner, $12::uuid, 'run.created', $13::json FROM run
    UNION ALL
    SELECT $5, 2, $1, run.owner, $14::uuid, 'run.started', $15::json FROM run WHERE run.status = 'running'
)
SELECT status, turn, session_epoch, lease_epoch, last_seq, owner FROM run;

-- name: claim
-- Take the oldest queued run that is the head of its session. The session row is the lock: two owners
-- never take two runs of one session. A waiting head keeps its session's line.
WITH head AS (
    SELECT r.id FROM runs r JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id
    WHERE r.status = 'queued' AND NOT EXISTS (
        SELECT FROM runs o
        WHERE o.tenant = r.tenant AND o.session_id = r.session_id AND o.turn < r.turn
            AND o.status IN ('queued', 'running', 'waiting')
    )
    ORDER BY r.created_at LIMIT 1 FOR UPDATE OF s SKIP LOCKED
), run AS (
    UPDATE runs SET status = 'running', lease_epoch = lease_epoch + 1, attempt = attempt + 1, last_seq = last_seq + 1,
        started_at = coalesce(started_at, clock_timestamp())
    FROM head WHERE runs.id = head.id AND runs.status = 'queued'
    RETURNING runs.*
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT id, last_seq, tenant, owner, $1::uuid, 'run.started', format('{"attempt":%s}', attempt)::json FROM run
)
SELECT id AS run_id, tenant, owner AS user_id, session_id, session_epoch, turn, agent, agent_version,
    lease_epoch AS epoch, attempt, last_seq, traceparent,
    extract(epoch FROM answer_by - clock_timestamp())::float8 AS remaining,
    extract(epoch FROM clock_timestamp() - created_at)::float8 AS queued,
    (SELECT payload FROM events WHERE run_id = run.id AND seq = 1) AS created
FROM run;

-- name: take_over_running
-- Every run that is running for $2 seconds and not among $1 becomes ours under a new epoch.
UPDATE runs SET lease_epoch = lease_epoch + 1
WHERE status = 'running' AND NOT id = ANY ($1::text[])
    AND started_at <= statement_timestamp() - make_interval(secs => $2)
RETURNING id AS run_id, tenant, owner AS user_id, session_id, session_epoch, turn, agent, agent_version,
    lease_epoch AS epoch, attempt, last_seq, traceparent, NULL::float8 AS remaining,
    extract(epoch FROM started_at - created_at)::float8 AS queued;

-- name: append
-- The owner's write, behind the fence: stores all events or, for a stale owner, none.
-- $1 run  $2 epoch  $3 last_seq before  $4 last_seq after  $5 seqs  $6 ids  $7 names  $8 payloads  $9 privates
WITH fence AS (
    UPDATE runs SET last_seq = $4
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3
    RETURNING tenant, owner
)
INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
SELECT $1, e.seq, fence.tenant, fence.owner, e.id, e.name, e.payload, e.private
FROM fence, unnest($5::integer[], $6::uuid[], $7::text[], $8::json[], $9::json[]) AS e (seq, id, name, payload, private);

-- name: finish
-- As append, and the run is terminal with it.
-- $10 status  $11 stop_reason  $12 output  $13 error  $14 iterations  $15 usage  $16 cost_usd  $17 degraded  $18 cached
WITH fence AS (
    UPDATE runs SET last_seq = $4, status = $10, stop_reason = $11, output = $12, error = $13, iterations = $14,
        usage = $15, cost_usd = $16::float8::numeric, degraded = $17, cached = $18, finished_at = clock_timestamp()
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3
    RETURNING tenant, owner
)
INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
SELECT $1, e.seq, fence.tenant, fence.owner, e.id, e.name, e.payload, e.private
FROM fence, unnest($5::integer[], $6::uuid[], $7::text[], $8::json[], $9::json[]) AS e (seq, id, name, payload, private);

-- name: finish_queued
-- End a run that nobody owns. The new epoch shuts out whoever is claiming it at this moment.
-- $1 run  $2 event id  $3 payload  $4 status  $5 stop_reason  $6 error
WITH run AS (
    UPDATE runs SET lease_epoch = lease_epoch + 1, last_seq = last_seq + 1, status = $4, stop_reason = $5, error = $6,
        finished_at = clock_timestamp()
    WHERE id = $1 AND status = 'queued'
    RETURNING tenant, owner, last_seq, session_id, agent
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT $1, run.last_seq, run.tenant, run.owner, $2, 'run.finished', $3::json FROM run
)
SELECT last_seq, session_id, agent FROM run;

-- name: stored_ids
-- Which events lie under these seqs.
SELECT id FROM events WHERE run_id = $1 AND seq = ANY ($2::integer[]) ORDER BY seq;

-- name: history
-- The events that make the messages of a session's earlier runs.
SELECT e.run_id, e.seq, e.name, e.payload, e.private
FROM runs r JOIN events e ON e.run_id = r.id
WHERE r.tenant = $1 AND r.session_id = $2 AND r.session_epoch = $3 AND r.turn < $4
    AND e.name IN ('run.created', 'message.completed', 'message.reset', 'tool.finished')
ORDER BY r.turn, e.seq;

-- name: events
-- A piece of one journal.
SELECT seq, name, payload, private, extract(epoch FROM at)::float8 AS at
FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: head
-- Where a run stands.
SELECT status, last_seq FROM runs WHERE id = $1 AND tenant = $2 AND ($3::text IS NULL OR owner = $3);

-- name: run
-- One run.
SELECT id, session_id, agent, agent_version, owner AS user_id, tags, status, stop_reason, output, error, degraded, cached,
    iterations, usage, cost_usd::float8 AS cost_usd, resumed_from, created_at, started_at, finished_at
FROM runs WHERE id = $1 AND tenant = $2 AND ($3::text IS NULL OR owner = $3);

-- name: runs
-- A page of runs, newest first.
SELECT id, session_id, agent, agent_version, owner AS user_id, tags, status, stop_reason, output, error, degraded, cached,
    iterations, usage, cost_usd::float8 AS cost_usd, resumed_from, created_at, started_at, finished_at
FROM runs
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::text IS NULL OR agent = $3) AND ($4::text IS NULL OR status = $4)
    AND ($5::text IS NULL OR session_id = $5) AND ($6::text IS NULL OR owner = $6)
    AND ($7::timestamptz IS NULL OR created_at >= $7) AND ($8::timestamptz IS NULL OR created_at < $8)
    AND ($9::timestamptz IS NULL OR (created_at, id) < ($9, $10::text))
ORDER BY created_at DESC, id DESC LIMIT $11;

-- name: session
-- One session.
SELECT id, owner AS user_id, created_at, updated_at, epoch
FROM sessions WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3;

-- name: sessions
-- A page of sessions, latest used first.
SELECT id, owner AS user_id, created_at, updated_at
FROM sessions
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::timestamptz IS NULL OR (updated_at, id) < ($3, $4::text))
ORDER BY updated_at DESC, id DESC LIMIT $5;

-- name: reset
-- Begin the session's next epoch; the runs of the one before that have not ended.
WITH session AS (
    UPDATE sessions SET epoch = epoch + 1, updated_at = clock_timestamp()
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3
    RETURNING epoch
)
SELECT ARRAY (
    SELECT r.id FROM runs r
    WHERE r.tenant = $1 AND r.session_id = $3 AND r.session_epoch < session.epoch
        AND r.status IN ('queued', 'running', 'waiting')
    ORDER BY r.turn
) AS live
FROM session;

-- name: queue
-- Depth of the queue and the age of its oldest run in seconds.
SELECT count(*) AS depth, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_age
FROM runs WHERE status = 'queued';
