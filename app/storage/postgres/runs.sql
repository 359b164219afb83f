-- name: save_agent
-- Keep an agent's definition under its version; a second time changes nothing.
INSERT INTO agent_versions (tenant, version, name, definition) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: agent
-- A kept definition.
SELECT definition FROM agent_versions WHERE tenant = $1 AND name = $2 AND version = $3;

-- name: lock_session
-- A start that looks at the session before it decides comes alone. No row: there is no such session yet.
SELECT FROM sessions WHERE tenant = $1 AND id = $2 FOR UPDATE;

-- name: start
-- Accept a run: key, session (created if missing), its next turn, the run and its first events.
-- $1 tenant  $2 principal's user  $3 session  $4 owner  $5 run  $6 agent  $7 agent_version  $8 tags
-- $9 slot  $10 seconds to answer  $11 traceparent  $12 event id  $13 run.created  $14 event id  $15 run.started
-- $16 lease owner  $17 lease seconds  $18 stop_after  $19 delay seconds  $20 priority  $21 callback_url  $22 resumed_from
-- $23 reject  $24 method  $25 path  $26 key  $27 fingerprint  $28 key's owner
-- $29 dollars that it needs, or NULL  $30 tenant's cap  $31 user's cap  $32 experiments  $33 shadow_of
-- $34 runs that a tenant may have at once
-- The run is born running where there is a slot for it, its tenant may have one more, and nothing of its session is live. A statement that waited for the session's row does not see the
-- turn before it among the runs, but sees by the session's count of turns that there was one: such a run is queued, or it
-- would overtake. A delayed run has no place in the line yet.
-- No row: the key was used before, the session is another user's, or busy and the caller said reject, or nothing is left of the
-- month's budget (whose user is the one that the run would belong to, as far as is known before). A violation of
-- idempotency_keys_run is the last two with a new key. A violation of runs_one_running: somebody else of the session
-- began at the same moment; say it again. A violation of runs_resumed: the failed run was resumed already.
WITH before AS MATERIALIZED (
    SELECT (SELECT s.turns FROM sessions s WHERE s.tenant = $1 AND s.id = $3) AS turns, EXISTS (
        SELECT FROM runs r WHERE r.tenant = $1 AND r.session_id = $3 AND r.status IN ('queued', 'running', 'waiting')
            AND r.not_before IS NULL
    ) AS busy, (
        SELECT max(r.priority) FROM runs r
        WHERE r.tenant = $1 AND r.session_id = $3 AND r.status = 'queued' AND r.not_before IS NULL
    ) AS priority, $9 AND $34::integer > (
        SELECT count(*) FROM (SELECT FROM runs r WHERE r.tenant = $1 AND r.status = 'running' LIMIT $34) AS running
    ) AS slot
), key AS (
    INSERT INTO idempotency_keys AS k (tenant, owner, method, path, key, fingerprint, run_id)
    SELECT $1, $28::text, $24, $25, $26, $27, $5 WHERE $26::text IS NOT NULL
    ON CONFLICT (tenant, owner, method, path, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, run_id = excluded.run_id, status = NULL, response = NULL,
        created_at = clock_timestamp(), locked_until = NULL
    WHERE k.created_at < statement_timestamp() - interval '1 day'
    RETURNING 1
), session AS (
    INSERT INTO sessions AS s (tenant, id, owner, turns, ready_rank, ready_priority)
    SELECT $1, $3, $4, 1,
        CASE WHEN $19::float8 IS NULL AND NOT (SELECT b.slot AND b.turns IS NULL FROM before b) THEN next_rank($1) END,
        CASE WHEN $19 IS NULL THEN $20::integer ELSE 0 END
    WHERE ($26 IS NULL OR EXISTS (SELECT FROM key)) AND NOT ($29::numeric IS NOT NULL AND EXISTS (
        SELECT FROM exhausted(
            $1, coalesce($4, (SELECT o.owner FROM sessions o WHERE o.tenant = $1 AND o.id = $3)),
            $30::numeric - $29::numeric, $31::numeric - $29::numeric
        )
    ))
    ON CONFLICT (tenant, id) DO UPDATE
    SET turns = s.turns + 1, owner = coalesce(s.owner, excluded.owner), updated_at = clock_timestamp(),
        ready_rank = CASE
            WHEN $19 IS NOT NULL OR (SELECT b.slot AND NOT b.busy AND b.turns = s.turns FROM before b) THEN s.ready_rank
            ELSE coalesce(s.ready_rank, next_rank($1))
        END,
        ready_priority = CASE WHEN $19 IS NOT NULL THEN s.ready_priority ELSE greatest(
            $20, CASE WHEN s.ready_rank IS NOT NULL THEN s.ready_priority END, (SELECT priority FROM before)
        ) END
    WHERE ($2::text IS NULL OR s.owner = $2) AND (s.owner IS NULL OR $4::text IS NULL OR s.owner = $4)
        AND NOT ($23 AND (SELECT b.busy OR b.turns IS DISTINCT FROM s.turns FROM before b))
    RETURNING s.owner, s.epoch, s.turns
), run AS (
    INSERT INTO runs (
        id, tenant, owner, session_id, session_epoch, turn, agent, agent_version, tags, traceparent,
        created_at, answer_by, status, lease_epoch, attempt, last_seq, started_at,
        lease_owner, lease_until, queued_at, stop_after, not_before, priority, resumed_from,
        experiments, shadow_of
    )
    SELECT $5, $1, session.owner, $3, session.epoch, session.turns, $6, $7, $8, $11,
        born.at, born.at + make_interval(secs => $10 + coalesce($19, 0)),
        CASE WHEN born.running THEN 'running' ELSE 'queued' END,
        born.running::integer, born.running::integer, 1 + born.running::integer,
        CASE WHEN born.running THEN born.at END,
        CASE WHEN born.running THEN $16 END,
        CASE WHEN born.running THEN born.at + make_interval(secs => $17) END,
        CASE WHEN NOT born.running THEN born.at END,
        $18, born.at + make_interval(secs => $19), $20, $22, $32, $33
    FROM session, before, LATERAL (
        SELECT clock_timestamp() AS at,
            before.slot AND $19 IS NULL AND NOT before.busy AND coalesce(before.turns, 0) = session.turns - 1 AS running
    ) AS born
    RETURNING status, turn, session_epoch, lease_epoch, last_seq, owner
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT $5, 1, $1, run.owner, $12::uuid, 'run.created', $13::json FROM run
    UNION ALL
    SELECT $5, 2, $1, run.owner, $14::uuid, 'run.started', $15::json FROM run WHERE run.status = 'running'
), callback AS (
    INSERT INTO callbacks (run_id, tenant, owner, url)
    SELECT $5, $1, run.owner, $21 FROM run WHERE $21::text IS NOT NULL
)
SELECT status, turn, session_epoch, lease_epoch, last_seq, owner FROM run;

-- name: owns
-- Whether the caller may use a session. $4: the user that the run would belong to.
SELECT FROM sessions s WHERE s.tenant = $1 AND s.id = $3
    AND ($2::text IS NULL OR s.owner = $2) AND (s.owner IS NULL OR $4::text IS NULL OR s.owner = $4);

-- name: exhausted
-- Which of the month's budgets has nothing left for a run in that session.
-- $1 tenant  $2 session  $3 user that the run would belong to  $4 tenant's cap  $5 user's cap
SELECT scope FROM exhausted($1, coalesce($3, (SELECT o.owner FROM sessions o WHERE o.tenant = $1 AND o.id = $2)), $4, $5)
ORDER BY scope LIMIT 1;

-- name: key
-- Whether a key was used, for what, and by which request.
SELECT run_id, fingerprint = $6 AS same FROM idempotency_keys
WHERE tenant = $1 AND owner = $2 AND method = $3 AND path = $4 AND key = $5;

-- name: copy_steps
-- What a failed run had finished, as the beginning of the run that resumes it: up to its last tool result, or the last that
-- was said to it; a message of the model after that is what failed.
WITH old AS (
    SELECT coalesce(max(seq), 0) AS last FROM events
    WHERE run_id = $1 AND (name = 'tool.finished' OR name = 'message.completed' AND payload #>> '{message,role}' = 'user')
), steps AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
    SELECT $2, 1 + row_number() OVER (ORDER BY e.seq), e.tenant, e.owner, gen_random_uuid(), e.name, e.payload, e.private
    FROM events e, old
    WHERE e.run_id = $1 AND e.seq <= old.last AND e.name IN (
        'message.completed', 'message.reset', 'tool.started', 'tool.finished', 'approval.requested', 'approval.resolved'
    )
    RETURNING seq
)
UPDATE runs SET last_seq = greatest(last_seq, (SELECT max(seq) FROM steps)) WHERE id = $2 RETURNING last_seq;

-- name: claim
-- Take the run whose turn it is. $1 lease owner  $2 lease seconds  $3 event id  $4 runs that a tenant may have at once
-- $5 agents that have a limit of their own  $6 how many runs each of these may have at once
-- Its id is NULL where all that wait belong to tenants or agents that have so many; or, where it has an event, nothing was taken yet.
SELECT (claimed).id AS run_id, (claimed).tenant, (claimed).owner AS user_id, (claimed).session_id, (claimed).session_epoch,
    (claimed).turn, (claimed).agent, (claimed).agent_version, (claimed).lease_epoch AS epoch, (claimed).attempt,
    (claimed).last_seq, (claimed).traceparent, (claimed).failures, (claimed).inbox, (claimed).stop_after,
    (claimed).resumed_from, first_event AS created,
    extract(epoch FROM (claimed).answer_by - clock_timestamp())::float8 AS remaining,
    extract(epoch FROM clock_timestamp() - (claimed).queued_at)::float8 AS queued
FROM claim_within($1, $2, $3, $4, $5, $6);

-- name: recover
-- Take over a run whose lease has run out. One whose owners died $3 times gets no other attempt: who takes it ends it.
-- $1 lease owner  $2 lease seconds  $3 attempts at most  $4 event id  $5 runs to leave alone
WITH lost AS (
    SELECT id FROM runs WHERE status = 'running' AND lease_until < statement_timestamp() AND NOT id = ANY ($5::text[])
    ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED
), run AS (
    UPDATE runs SET lease_epoch = lease_epoch + 1, failures = failures + 1,
        attempt = attempt + (failures + 1 < $3)::integer, last_seq = last_seq + (failures + 1 < $3)::integer,
        lease_owner = $1, lease_until = clock_timestamp() + make_interval(secs => $2)
    FROM lost WHERE runs.id = lost.id AND runs.status = 'running' AND runs.lease_until < statement_timestamp()
    RETURNING runs.*
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT id, last_seq, tenant, owner, $4::uuid, 'run.started', format('{"attempt":%s}', attempt)::json
    FROM run WHERE failures < $3
)
SELECT id AS run_id, tenant, owner AS user_id, session_id, session_epoch, turn, agent, agent_version,
    lease_epoch AS epoch, attempt, last_seq, traceparent, failures, inbox, stop_after, resumed_from,
    extract(epoch FROM answer_by - clock_timestamp())::float8 AS remaining,
    0::float8 AS queued,
    (SELECT payload FROM events WHERE run_id = run.id AND seq = 1) AS created
FROM run;

-- name: due
-- Delayed runs whose time has come take the next turn of their sessions: what was said meanwhile stands before them.
-- One run of a session at a time, and none of a session that somebody else has in hand: the next round takes it.
WITH first AS (
    SELECT DISTINCT ON (tenant, session_id) id, tenant, session_id, priority FROM runs
    WHERE status = 'queued' AND not_before <= statement_timestamp()
    ORDER BY tenant, session_id, not_before
), due AS (
    SELECT first.* FROM first JOIN sessions s ON s.tenant = first.tenant AND s.id = first.session_id
    FOR UPDATE OF s SKIP LOCKED
), session AS (
    UPDATE sessions s SET turns = s.turns + 1,
        ready_priority = greatest(due.priority, CASE WHEN s.ready_rank IS NOT NULL THEN s.ready_priority END),
        ready_rank = coalesce(s.ready_rank, next_rank(s.tenant))
    FROM due WHERE s.tenant = due.tenant AND s.id = due.session_id
    RETURNING due.id, s.turns
)
UPDATE runs SET turn = session.turns, not_before = NULL, queued_at = clock_timestamp()
FROM session WHERE runs.id = session.id AND runs.status = 'queued' AND runs.not_before IS NOT NULL;

-- name: revive
-- The net under the queue: sessions whose head is queued, and that no statement has put back into it. $1: agents that may be waited for.
UPDATE sessions s SET ready_rank = 0, held_for = NULL, held_rank = NULL
FROM runs r
WHERE r.status = 'queued' AND r.not_before IS NULL AND r.queued_at < statement_timestamp() - interval '10 seconds'
    AND s.tenant = r.tenant AND s.id = r.session_id AND s.ready_rank IS NULL
    AND (s.held_for IS NULL OR s.held_for <> ALL ($1::text[])) AND NOT EXISTS (
        SELECT FROM runs o
        WHERE o.tenant = r.tenant AND o.session_id = r.session_id AND o.turn < r.turn
            AND o.status IN ('queued', 'running', 'waiting') AND o.not_before IS NULL
    );

-- name: owners
-- Who holds leases.
SELECT DISTINCT lease_owner FROM runs WHERE status = 'running' AND lease_owner IS NOT NULL;

-- name: orphan
-- Those owners are dead: their leases end now.
UPDATE runs SET lease_until = statement_timestamp() - interval '1 second'
WHERE status = 'running' AND lease_owner = ANY ($1::text[]);

-- name: extend
-- The heartbeat: all leases of a process. $1 runs  $2 their epochs  $3 lease seconds
UPDATE runs SET lease_until = clock_timestamp() + make_interval(secs => $3)
FROM unnest($1::text[], $2::bigint[]) AS mine (id, epoch)
WHERE runs.id = mine.id AND runs.lease_epoch = mine.epoch AND runs.status = 'running'
RETURNING runs.id AS run_id, runs.inbox;

-- name: append
-- The owner's write, behind the fence: stores all events or, for a stale owner, none.
-- $1 run  $2 epoch  $3 last_seq before  $4 last_seq after  $5 seqs  $6 ids  $7 names  $8 payloads  $9 privates
-- $10 lease seconds  $11 attempts that are settled by it, as settle_attempts has them; NULL: none
-- The budgets' counters are locked after the run, and in one order, here and everywhere.
WITH fence AS (
    UPDATE runs SET last_seq = $4, lease_until = clock_timestamp() + make_interval(secs => $10)
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3
    RETURNING tenant, owner, inbox
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
    SELECT $1, e.seq, fence.tenant, fence.owner, e.id, e.name, e.payload, e.private
    FROM fence, unnest($5::integer[], $6::uuid[], $7::text[], $8::json[], $9::json[]) AS e (seq, id, name, payload, private)
), settled AS (
    SELECT settle_attempts($11::json, true) AS crossed FROM fence WHERE $11 IS NOT NULL
)
SELECT inbox, (SELECT crossed FROM settled) AS crossed FROM fence;

-- name: finish
-- As append, and the run is terminal with it. A session that has later turns comes back into the queue: by the count of turns
-- in its row, which is locked first. A condition on the row would be judged by what this statement's snapshot knows, and a turn that came since
-- would wait for ever.
-- $10 status  $11 stop_reason  $12 output  $13 error  $14 iterations  $15 usage  $16 cost_usd  $17 degraded  $18 cached
-- $19 outcome_unknown  $20 rows of the inbox that were read (NULL: it does not matter)  $21 as $11 in append
WITH fence AS (
    UPDATE runs SET last_seq = $4, status = $10, stop_reason = $11, output = $12, error = $13, iterations = $14,
        usage = $15, cost_usd = $16::float8::numeric, degraded = $17, cached = $18, outcome_unknown = $19,
        finished_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3 AND ($20::integer IS NULL OR inbox = $20)
    RETURNING tenant, owner, session_id, turn
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
    SELECT $1, e.seq, fence.tenant, fence.owner, e.id, e.name, e.payload, e.private
    FROM fence, unnest($5::integer[], $6::uuid[], $7::text[], $8::json[], $9::json[]) AS e (seq, id, name, payload, private)
), line AS (
    SELECT s.tenant, s.id, s.turns > fence.turn AS more FROM sessions s
    JOIN fence ON s.tenant = fence.tenant AND s.id = fence.session_id FOR NO KEY UPDATE OF s
), session AS (
    UPDATE sessions s SET ready_rank = coalesce(s.ready_rank, next_rank(s.tenant)), ready_priority = greatest(CASE WHEN s.ready_rank IS NOT NULL THEN s.ready_priority END, (
        SELECT max(r.priority) FROM runs r
        WHERE r.tenant = s.tenant AND r.session_id = s.id AND r.status = 'queued' AND r.not_before IS NULL
    ), 0)
    FROM line WHERE s.tenant = line.tenant AND s.id = line.id AND line.more
), callback AS (
    UPDATE callbacks SET status = 'due', next_at = clock_timestamp() FROM fence WHERE run_id = $1
), settled AS (
    SELECT settle_attempts($21::json, false) AS crossed FROM line WHERE $21 IS NOT NULL
)
SELECT coalesce((SELECT more FROM line), false) AS more, (SELECT count(*) FROM settled) FROM fence;

-- name: park
-- As append, and the run waits, owned by nobody. A request's own time limit was for its answer, which this is; what
-- comes after is not held against it that owners died before.
-- $10 stop_reason  $11 iterations  $12 usage  $13 outcome_unknown  $14 rows of the inbox that were read
-- $15 ids of approvals  $16 calls  $17 tools  $18 arguments  $19 risks  $20 when they expire, by the clock of the owner,
-- $21 digests  $22 grounds  $23 where the owner's clock stands now: they are judged by the database's  $24 cost_usd  $25 as $11 in append
WITH fence AS (
    UPDATE runs SET last_seq = $4, status = 'waiting', stop_reason = $10, iterations = $11, usage = $12, outcome_unknown = $13,
        cost_usd = $24::float8::numeric, failures = 0, answer_by = NULL, stop_after = CASE WHEN $10 = 'stopped_after_step' THEN NULL ELSE stop_after END, lease_owner = NULL, lease_until = NULL
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3 AND inbox = $14
    RETURNING tenant, owner
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload, private)
    SELECT $1, e.seq, fence.tenant, fence.owner, e.id, e.name, e.payload, e.private
    FROM fence, unnest($5::integer[], $6::uuid[], $7::text[], $8::json[], $9::json[]) AS e (seq, id, name, payload, private)
), asked AS (
    INSERT INTO approvals (id, run_id, tenant, owner, call_id, tool, arguments, risk, expires_at, digest, grounds)
    SELECT a.id, $1, fence.tenant, fence.owner, a.call_id, a.tool, a.arguments, a.risk,
        clock_timestamp() + (a.expires_at - $23::timestamptz), a.digest, a.grounds
    FROM fence, unnest(
        $15::text[], $16::text[], $17::text[], $18::json[], $19::text[], $20::timestamptz[], $21::text[], $22::json[]
    ) AS a (id, call_id, tool, arguments, risk, expires_at, digest, grounds)
), settled AS (
    SELECT settle_attempts($25::json, false) AS crossed FROM fence WHERE $25 IS NOT NULL
)
SELECT (SELECT count(*) FROM settled) FROM fence;

-- name: release
-- Hand the run back: it is queued again, and a late write of its owner is refused.
WITH fence AS (
    UPDATE runs SET status = 'queued', queued_at = clock_timestamp(), lease_epoch = lease_epoch + 1,
        lease_owner = NULL, lease_until = NULL
    WHERE id = $1 AND lease_epoch = $2 AND status = 'running'
    RETURNING tenant, session_id
), session AS (
    UPDATE sessions s SET ready_rank = coalesce(s.ready_rank, front_rank())
    FROM fence WHERE s.tenant = fence.tenant AND s.id = fence.session_id
)
SELECT FROM fence;

-- name: stands
-- Why a write was refused: whether the run is still ours.
SELECT lease_epoch = $2 AND status = 'running' AND last_seq = $3 FROM runs WHERE id = $1;

-- name: session_of
-- Lock the session of a run: first the session, then the run, as everybody does who needs both.
SELECT s.tenant, s.id FROM runs r JOIN sessions s ON s.tenant = r.tenant AND s.id = r.session_id
WHERE r.id = $1 FOR UPDATE OF s;

-- name: end_unowned
-- End a run that nobody owns, and with it what people were asked for it. The new epoch shuts out whoever is claiming it at this moment.
-- $1 run  $2 ids  $3 names  $4 payloads of its last events  $5 status  $6 stop_reason  $7 error  $8 statuses that it may have
-- $9 last_seq that it must have  $10 iterations  $11 usage  $12 cost_usd  $13 the user who stopped it
WITH run AS (
    UPDATE runs SET lease_epoch = lease_epoch + 1, last_seq = last_seq + cardinality($2::uuid[]),
        status = $5, stop_reason = $6, error = $7, iterations = $10, usage = $11, cost_usd = $12::float8::numeric,
        not_before = NULL, finished_at = clock_timestamp()
    WHERE id = $1 AND status = ANY ($8::text[]) AND last_seq = $9
    RETURNING tenant, owner, last_seq, session_id, agent, turn
), journal AS (
    INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
    SELECT $1, $9 + e.n, run.tenant, run.owner, e.id, e.name, e.payload
    FROM run, unnest($2::uuid[], $3::text[], $4::json[]) WITH ORDINALITY AS e (id, name, payload, n)
), asked AS (
    UPDATE approvals SET status = 'cancelled', resolved_at = clock_timestamp(), resolved_by = $13, resolved_actor = 'system'
    FROM run WHERE run_id = $1 AND approvals.status = 'pending'
    RETURNING approvals.tenant, approvals.id, approvals.tool, approvals.risk, approvals.digest
), audited AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT tenant, 'system', $13::text, 'approval.cancelled', id, json_build_object(
        'run_id', $1::text, 'tool', tool, 'risk', risk, 'digest', digest, 'edited', false
    ) FROM asked
), session AS (
    UPDATE sessions s SET ready_rank = coalesce(s.ready_rank, next_rank(s.tenant))
    FROM run WHERE s.tenant = run.tenant AND s.id = run.session_id AND s.turns > run.turn
), callback AS (
    UPDATE callbacks SET status = 'due', next_at = clock_timestamp() FROM run WHERE run_id = $1
)
SELECT session_id, agent FROM run;

-- name: keep_key
-- Remember what request a key belongs to, and the run that it is about.
INSERT INTO idempotency_keys (tenant, owner, method, path, key, fingerprint, run_id) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: requeue
-- A waiting run goes on. $1 run  $2 stop_after  $3 the stop_reason that it waits with
WITH run AS (
    UPDATE runs SET status = 'queued', queued_at = clock_timestamp(), lease_epoch = lease_epoch + 1, stop_after = $2
    WHERE id = $1 AND status = 'waiting' AND stop_reason = $3
    RETURNING tenant, session_id
), session AS (
    UPDATE sessions s SET ready_rank = coalesce(s.ready_rank, front_rank())
    FROM run WHERE s.tenant = run.tenant AND s.id = run.session_id
)
SELECT FROM run;

-- name: post
-- Put something into a live run's inbox, once per id. $1 run  $2 id  $3 kind  $4 payload
WITH run AS (
    UPDATE runs SET inbox = inbox + 1
    WHERE id = $1 AND status IN ('queued', 'running', 'waiting') AND NOT EXISTS (SELECT FROM inbox WHERE run_id = $1 AND id = $2)
    RETURNING tenant, owner, inbox
)
INSERT INTO inbox (run_id, n, tenant, owner, id, kind, payload)
SELECT $1, run.inbox, run.tenant, run.owner, $2, $3, $4 FROM run;

-- name: inbox
-- What a run's inbox had after a row.
SELECT n, id, kind, payload, extract(epoch FROM clock_timestamp() - at)::float8 AS age
FROM inbox WHERE run_id = $1 AND n > $2 ORDER BY n;

-- name: status
-- Whether a run is live.
SELECT status FROM runs WHERE id = $1;

-- name: stored_ids
-- Which events lie under these seqs.
SELECT id FROM events WHERE run_id = $1 AND seq = ANY ($2::integer[]) ORDER BY seq;

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
    iterations, usage, cost_usd::float8 AS cost_usd, resumed_from, outcome_unknown, created_at, started_at, finished_at,
    experiments, shadow_of
FROM runs WHERE id = $1 AND tenant = $2 AND ($3::text IS NULL OR owner = $3);

-- name: runs
-- A page of runs, newest first. $12: a run whose shadows are wanted; without one there is no shadow in it.
SELECT id, session_id, agent, agent_version, owner AS user_id, tags, status, stop_reason, output, error, degraded, cached,
    iterations, usage, cost_usd::float8 AS cost_usd, resumed_from, outcome_unknown, created_at, started_at, finished_at,
    experiments, shadow_of
FROM runs
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::text IS NULL OR agent = $3) AND ($4::text IS NULL OR status = $4)
    AND ($5::text IS NULL OR session_id = $5) AND ($6::text IS NULL OR owner = $6)
    AND ($7::timestamptz IS NULL OR created_at >= $7) AND ($8::timestamptz IS NULL OR created_at < $8)
    AND ($9::timestamptz IS NULL OR (created_at, id) < ($9, $10::text))
    AND shadow_of IS NOT DISTINCT FROM $12::text
ORDER BY created_at DESC, id DESC LIMIT $11;

-- name: shadows_welcome
-- Whether the queue is empty and there are fewer shadows than $1 that are not over.
SELECT NOT EXISTS (SELECT FROM runs WHERE status = 'queued' AND not_before IS NULL) AND (
    SELECT count(*) FROM runs WHERE shadow_of IS NOT NULL AND status IN ('queued', 'running', 'waiting')
) < $1::integer;

-- name: heads
-- Where some runs stand.
SELECT id, status, last_seq, inbox FROM runs WHERE id = ANY ($1::text[]);

-- name: queue
-- For each tenant: its depth of the queue and the age of its oldest run there in seconds, and all its runs that are queued. Nobody
-- waits for shadows, nor yet for delayed runs, but all of them are stored.
SELECT tenant, count(*) FILTER (WHERE due) AS depth, count(*) AS stored,
    coalesce(extract(epoch FROM clock_timestamp() - min(queued_at) FILTER (WHERE due)), 0)::float8 AS oldest_age
FROM (
    SELECT tenant, queued_at, shadow_of IS NULL AS due FROM runs WHERE status = 'queued' AND not_before IS NULL
    UNION ALL
    SELECT tenant, queued_at, false FROM runs WHERE status = 'queued' AND not_before IS NOT NULL
) AS waiting
GROUP BY tenant;
