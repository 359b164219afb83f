-- Tenants share what executes their runs: so many of one tenant's at a time, and each tenant in its turn. Switches of operators.
-- sessions_queue stays: processes of the release before claim by it until they are gone.

-- The tenant whose turn it is among those that are not left out, and the rank of its first session; none where nobody waits.
-- `at_least`: sessions of a lower priority do not count. The first of the queue is one look; past tenants that are left out it
-- goes in steps of whole tenants, however long the lines of those are. A plan that was made while the queue was empty must be good
-- when it is not: it may neither read a whole table nor sort, here and in claim_fair.
CREATE FUNCTION next_tenant(left_out text[], at_least integer)
RETURNS TABLE (of_tenant text, rank bigint) LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
    SELECT s.tenant, s.ready_rank INTO of_tenant, rank FROM sessions s
    WHERE s.ready_rank IS NOT NULL AND s.ready_priority >= at_least ORDER BY s.ready_rank LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF of_tenant = ANY (left_out) THEN
        WITH RECURSIVE waiting AS (
            (
                SELECT s.tenant, s.ready_rank FROM sessions s WHERE s.ready_rank IS NOT NULL AND s.ready_priority >= at_least
                ORDER BY s.tenant, s.ready_rank LIMIT 1
            )
            UNION ALL
            SELECT n.tenant, n.ready_rank FROM waiting w, LATERAL (
                SELECT s.tenant, s.ready_rank FROM sessions s
                WHERE s.ready_rank IS NOT NULL AND s.ready_priority >= at_least AND s.tenant > w.tenant
                ORDER BY s.tenant, s.ready_rank LIMIT 1
            ) AS n
        )
        SELECT w.tenant, w.ready_rank INTO of_tenant, rank FROM waiting w
        WHERE w.tenant <> ALL (left_out) ORDER BY w.ready_rank LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

-- Take the head of the line of the session whose turn it is: that of the tenant whose turn it is, of the highest priority among
-- its own: priorities order a tenant's runs, never those of several. Runs below every priority that can be asked for go when nothing else can. Gives the run with its first event; a row
-- of NULLs where all that wait belong to tenants that have `most` runs already; no row where nothing waits.
-- How many a tenant has is seen without a lock: claims and births of the same moment may come to one more each.
-- As for the rest, see claim_next, which earlier releases call.
CREATE FUNCTION claim_fair(new_owner text, seconds float8, event_id uuid, most integer)
RETURNS TABLE (claimed runs, first_event json) LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
    turn record;
    next record;
    left_out text[] := '{}';
    held boolean := false;
    at_least integer := -10;
BEGIN
    LOOP
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
        IF most <= (
            SELECT count(*) FROM (
                SELECT FROM runs r WHERE r.tenant = turn.of_tenant AND r.status = 'running' LIMIT most
            ) AS running
        ) THEN
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
        RETURN QUERY
        WITH head AS (
            SELECT r.id, r.status FROM runs r
            WHERE r.tenant = next.tenant AND r.session_id = next.id AND r.status IN ('queued', 'running', 'waiting')
                AND r.not_before IS NULL
            ORDER BY r.turn LIMIT 1
        ), run AS (
            UPDATE runs r SET status = 'running', lease_epoch = lease_epoch + 1, attempt = attempt + 1, last_seq = last_seq + 1,
                started_at = coalesce(started_at, clock_timestamp()), stop_reason = NULL,
                lease_owner = new_owner, lease_until = clock_timestamp() + make_interval(secs => seconds)
            FROM head WHERE r.id = head.id AND head.status = 'queued' AND r.status = 'queued'
            RETURNING r AS whole
        ), session AS (
            UPDATE sessions SET ready_rank = NULL WHERE tenant = next.tenant AND id = next.id
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

CREATE TABLE controls (
    tenant text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('agent', 'tool', 'tenant')),
    name text NOT NULL,
    reason text,
    actor text NOT NULL,
    owner text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, kind, name)
);
COMMENT ON TABLE controls IS 'what is switched off';
COMMENT ON COLUMN controls.tenant IS 'for whom; empty: for all tenants, by whoever operates the machine';
