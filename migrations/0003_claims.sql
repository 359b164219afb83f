-- A claim in one round trip, and one resumption of a run at most.
-- The index is built in the transaction: no release before this one has tables that are large.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, ban-drop-not-null

-- Nothing reads it any more, also not a release before this one, which still writes it.
ALTER TABLE approvals ALTER COLUMN digest DROP NOT NULL;

-- Of two runs that resumed one and the same, the second is a run of its own.
UPDATE runs later SET resumed_from = NULL
WHERE resumed_from IS NOT NULL AND EXISTS (
    SELECT FROM runs earlier
    WHERE earlier.resumed_from = later.resumed_from AND (earlier.created_at, earlier.id) < (later.created_at, later.id)
);
DROP INDEX runs_resumed;
CREATE UNIQUE INDEX runs_resumed ON runs (resumed_from) WHERE resumed_from IS NOT NULL;

-- Start-time fair queueing: a session comes behind the first of the queue, and behind all others of its tenant.
CREATE FUNCTION next_rank(of_tenant text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN 1 + greatest(
        (SELECT min(ready_rank) FROM sessions WHERE ready_rank IS NOT NULL),
        (SELECT max(ready_rank) FROM sessions WHERE tenant = of_tenant AND ready_rank IS NOT NULL), 0
    );
END
$$;

-- A run that goes on does not stand in line again: it comes behind the first of the queue only.
CREATE FUNCTION front_rank() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN 1 + coalesce((SELECT min(ready_rank) FROM sessions WHERE ready_rank IS NOT NULL), 0);
END
$$;

-- Take the head of the line of the session whose turn it is, and give it with its first event; none where nothing is queued.
-- Whatever the head is, the session leaves the queue: the end of its head, and every new turn, brings it back. Two statements,
-- because the second must see what the first one's lock waited for: nobody else claims a run of that session, and no end of
-- one comes in between. What the caller's own statement reads may be older than either.
CREATE FUNCTION claim_next(new_owner text, seconds float8, event_id uuid)
RETURNS TABLE (claimed runs, first_event json) LANGUAGE plpgsql AS $$
DECLARE
    next record;
BEGIN
    LOOP
        SELECT s.tenant, s.id INTO next FROM sessions s WHERE s.ready_rank IS NOT NULL
        ORDER BY s.ready_priority DESC, s.ready_rank LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
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
