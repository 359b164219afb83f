-- So many runs of an agent at a time. A session whose turn it is, but whose agent has no room, leaves the queue for the agent's own
-- line: it is looked at once, however long it waits there, and keeps nobody back. Tenants take turns in that line as in the queue.

ALTER TABLE sessions ADD COLUMN held_for text, ADD COLUMN held_rank bigint;
COMMENT ON COLUMN sessions.held_for IS 'the agent in whose line it is; NULL: in none';
COMMENT ON COLUMN sessions.held_rank IS 'its place in that line';

-- Whether so many runs, or more, are being executed.
CREATE FUNCTION agent_is_full(of_agent text, at_once integer) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    RETURN at_once <= (
        SELECT count(*) FROM (
            SELECT FROM runs r WHERE r.agent = of_agent AND r.status = 'running' LIMIT at_once
        ) AS running
    );
END
$$;

CREATE FUNCTION tenant_is_full(of_tenant text, most integer) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    RETURN most <= (
        SELECT count(*) FROM (
            SELECT FROM runs r WHERE r.tenant = of_tenant AND r.status = 'running' LIMIT most
        ) AS running
    );
END
$$;

-- Put a session into an agent's line: behind its first, and behind all others of its tenant (start-time fair queueing, as next_rank).
-- One that is in it keeps its place.
CREATE PROCEDURE set_aside(of_tenant text, session text, agent text) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
    UPDATE sessions s SET ready_rank = NULL, held_for = agent, held_rank = CASE
        WHEN s.held_for = agent THEN s.held_rank
        ELSE 1 + greatest(
            (SELECT min(o.held_rank) FROM sessions o WHERE o.held_for = agent),
            (SELECT max(o.held_rank) FROM sessions o WHERE o.held_for = agent AND o.tenant = of_tenant), 0
        )
    END
    WHERE s.tenant = of_tenant AND s.id = session;
END
$$;

-- The session whose turn it is in the line of the first of the agents that has room: of the tenants that may have one more run, the one
-- whose best stands first; best is the highest priority, then the place. It is locked; one that somebody else has in hand is passed over.
CREATE FUNCTION next_held(agents text[], at_once integer[], most integer)
RETURNS TABLE (of_tenant text, session text) LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
    FOR i IN 1 .. cardinality(agents) LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM sessions s WHERE s.held_for = agents[i]);
        CONTINUE WHEN agent_is_full(agents[i], at_once[i]);
        RETURN QUERY
        WITH RECURSIVE waiting AS (
            (
                SELECT s.tenant, s.id, s.held_rank FROM sessions s WHERE s.held_for = agents[i]
                ORDER BY s.tenant, s.ready_priority DESC, s.held_rank LIMIT 1
            )
            UNION ALL
            SELECT n.tenant, n.id, n.held_rank FROM waiting w, LATERAL (
                SELECT s.tenant, s.id, s.held_rank FROM sessions s WHERE s.held_for = agents[i] AND s.tenant > w.tenant
                ORDER BY s.tenant, s.ready_priority DESC, s.held_rank LIMIT 1
            ) AS n
        ), turn AS (
            SELECT w.tenant, w.id FROM waiting w WHERE NOT tenant_is_full(w.tenant, most) ORDER BY w.held_rank, w.tenant LIMIT 1
        )
        SELECT s.tenant, s.id FROM sessions s JOIN turn USING (tenant, id) WHERE s.held_for = agents[i]
        FOR UPDATE OF s SKIP LOCKED;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- As claim_fair, which the release before calls, and: no more than `at_once` runs of each of the `agents` at a time, never one too many,
-- since claims look at those one after another (a claim that need not does not wait). A row of NULLs where all that wait belong
-- to tenants or agents that have as many as they may; its event is not NULL where many were set aside, and the rest wants another call.
CREATE FUNCTION claim_within(
    new_owner text, seconds float8, event_id uuid, most integer, agents text[], at_once integer[]
) RETURNS TABLE (claimed runs, first_event json) LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
    turn record;
    next record;
    head record;
    left_out text[] := '{}';
    held boolean := false;
    alone boolean := false;
    from_line boolean;
    moved integer := 0;
    at_least integer := -10;
    room integer;
BEGIN
    LOOP
        from_line := false;
        IF EXISTS (SELECT FROM sessions s WHERE s.held_for = ANY (agents)) THEN
            held := true;
            alone := alone OR pg_try_advisory_xact_lock(1302);
            IF alone THEN
                SELECT n.of_tenant AS tenant, n.session AS id INTO next FROM next_held(agents, at_once, most) AS n;
                from_line := FOUND;
            END IF;
        END IF;
        IF NOT from_line THEN
            SELECT t.of_tenant, t.rank INTO turn FROM next_tenant(left_out, at_least) AS t;
            IF NOT FOUND THEN
                IF at_least > -2147483648 THEN
                    at_least := -2147483648;
                    CONTINUE;
                END IF;
                IF held THEN
                    RETURN QUERY SELECT NULL::runs, NULL::json;
                END IF;
                EXIT;
            END IF;
            IF tenant_is_full(turn.of_tenant, most) THEN
                held := true;
                left_out := left_out || turn.of_tenant;
                CONTINUE;
            END IF;
            SELECT s.tenant, s.id INTO next FROM sessions s
            WHERE s.tenant = turn.of_tenant AND s.ready_rank IS NOT NULL
            ORDER BY s.ready_priority DESC, s.ready_rank LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                left_out := left_out || turn.of_tenant;
                CONTINUE;
            END IF;
        END IF;
        SELECT r.id, r.status, r.agent INTO head FROM runs r
        WHERE r.tenant = next.tenant AND r.session_id = next.id AND r.status IN ('queued', 'running', 'waiting')
            AND r.not_before IS NULL
        ORDER BY r.turn LIMIT 1;
        room := at_once[array_position(agents, head.agent)];
        IF head.status = 'queued' AND room IS NOT NULL THEN
            IF NOT alone THEN
                PERFORM pg_advisory_xact_lock(1302);
                alone := true;
            END IF;
            IF agent_is_full(head.agent, room) OR NOT from_line AND EXISTS (
                SELECT FROM sessions s WHERE s.held_for = head.agent
            ) THEN
                CALL set_aside(next.tenant, next.id, head.agent);
                moved := moved + 1;
                IF moved = 50 THEN
                    RETURN QUERY SELECT NULL::runs, '{}'::json;
                    EXIT;
                END IF;
                CONTINUE;
            END IF;
        END IF;
        RETURN QUERY
        WITH run AS (
            UPDATE runs r SET status = 'running', lease_epoch = lease_epoch + 1, attempt = attempt + 1, last_seq = last_seq + 1,
                started_at = coalesce(started_at, clock_timestamp()), stop_reason = NULL,
                lease_owner = new_owner, lease_until = clock_timestamp() + make_interval(secs => seconds)
            WHERE r.id = head.id AND head.status = 'queued' AND r.status = 'queued'
            RETURNING r AS whole
        ), session AS (
            UPDATE sessions SET ready_rank = NULL, held_for = NULL, held_rank = NULL
            WHERE tenant = next.tenant AND id = next.id
        ), journal AS (
            INSERT INTO events (run_id, seq, tenant, owner, id, name, payload)
            SELECT (whole).id, (whole).last_seq, (whole).tenant, (whole).owner, event_id, 'run.started',
                format('{"attempt":%s}', (whole).attempt)::json
            FROM run
        )
        SELECT whole, e.payload FROM run JOIN events e ON e.run_id = (whole).id AND e.seq = 1;
        EXIT WHEN FOUND;
    END LOOP;
END
$$;
