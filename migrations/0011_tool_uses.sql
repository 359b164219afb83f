-- How often and for how much tools with caps were called.

CREATE TABLE tool_uses (
    run_id text NOT NULL,
    call_id text NOT NULL,
    tenant text NOT NULL,
    owner text NOT NULL,
    tool text NOT NULL,
    amount numeric NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, call_id)
);
COMMENT ON TABLE tool_uses IS 'one row per call of a tool that has caps, written before it runs; it outlives its run and its session';
COMMENT ON COLUMN tool_uses.owner IS 'the user; empty: none';
COMMENT ON COLUMN tool_uses.amount IS 'what the call spends, as its agent counts it; 0: it does not';
-- The first for windows of a tenant and for what is old, the second for those of a user.
CREATE INDEX tool_uses_by_time ON tool_uses (tenant, tool, at);
CREATE INDEX tool_uses_by_owner ON tool_uses (tenant, tool, owner, at);

-- Count a call, once. NULL: it is counted; else the cap that it would exceed, and nothing changed. Every most_… may be NULL: no such cap.
-- Those who count calls of one tool of a tenant do so one after another: two of them may not both be the last.
CREATE FUNCTION use_tool(
    of_run text, of_call text, of_tenant text, of_owner text, of_tool text, spends numeric,
    most_per_run bigint, most_calls bigint, most_amount numeric, seconds double precision, of_all boolean
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz;
    -- No window is longer than 31 days. In a variable: an index is not asked about what may change from row to row.
    old timestamptz := clock_timestamp() - interval '32 days';
    calls bigint;
    spent numeric;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(of_tenant || E'\n' || of_tool, 1101));
    IF EXISTS (SELECT FROM tool_uses u WHERE u.run_id = of_run AND u.call_id = of_call) THEN
        RETURN NULL;
    END IF;
    IF most_per_run IS NOT NULL AND most_per_run <= (
        SELECT count(*) FROM tool_uses u WHERE u.run_id = of_run AND u.tool = of_tool
    ) THEN
        RETURN 'calls_per_run';
    END IF;
    -- Without caps on a window nothing in it is read.
    IF most_calls IS NOT NULL OR most_amount IS NOT NULL THEN
        since := clock_timestamp() - make_interval(secs => seconds);
        IF of_all THEN
            SELECT count(*), coalesce(sum(u.amount), 0) INTO calls, spent FROM tool_uses u
            WHERE u.tenant = of_tenant AND u.tool = of_tool AND u.at > since;
        ELSE
            SELECT count(*), coalesce(sum(u.amount), 0) INTO calls, spent FROM tool_uses u
            WHERE u.tenant = of_tenant AND u.tool = of_tool AND u.owner = of_owner AND u.at > since;
        END IF;
        IF calls >= most_calls THEN
            RETURN 'calls';
        END IF;
        IF spent + spends > most_amount THEN
            RETURN 'spend';
        END IF;
    END IF;
    INSERT INTO tool_uses (run_id, call_id, tenant, owner, tool, amount)
    VALUES (of_run, of_call, of_tenant, of_owner, of_tool, spends);
    DELETE FROM tool_uses u WHERE u.tenant = of_tenant AND u.tool = of_tool AND u.at < old;
    RETURN NULL;
END $$;
