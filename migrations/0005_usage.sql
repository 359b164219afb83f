-- What every attempt at a model cost, and how much a month may cost.

CREATE TABLE usage (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    owner text,
    kind text NOT NULL,
    run_id text,
    session_id text,
    agent text,
    agent_version text,
    tags json NOT NULL,
    experiments json,
    route text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    number integer NOT NULL,
    epoch bigint,
    month date NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    estimated_tokens integer,
    estimated_usd numeric,
    reserved_usd numeric NOT NULL DEFAULT 0,
    settled_at timestamptz,
    basis text CHECK (basis IN ('provider', 'estimated', 'abandoned')),
    outcome text,
    response_model text,
    input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    cache_write_1h_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cost_usd numeric,
    CHECK ((basis IS NULL) = (settled_at IS NULL))
);
COMMENT ON TABLE usage IS 'one row per attempt at a model, written before its first byte leaves; it outlives its run and its session';
COMMENT ON COLUMN usage.owner IS 'the user; NULL also for a shadow run, which its user did not ask for';
COMMENT ON COLUMN usage.experiments IS 'the variants that its run was exposed to, by experiment; NULL: it was in none';
COMMENT ON COLUMN usage.number IS 'its place among the attempts of its call';
COMMENT ON COLUMN usage.epoch IS 'that of the owner who made it; NULL: no run''s';
COMMENT ON COLUMN usage.month IS 'the month, in UTC, that it is charged to';
COMMENT ON COLUMN usage.estimated_usd IS 'what its input costs by an estimate: its charge if its owner dies';
COMMENT ON COLUMN usage.settled_at IS 'NULL: it is open, and its reservation stands';
COMMENT ON COLUMN usage.response_model IS 'the model that answered, which it is charged as';
COMMENT ON COLUMN usage.input_tokens IS 'all of them, cached and written to the cache too; NULL: nobody said, which is not 0';
COMMENT ON COLUMN usage.cost_usd IS 'exact; NULL of a settled row: not known, which is not 0';

CREATE INDEX usage_by_time ON usage (tenant, started_at);
CREATE INDEX usage_open ON usage (run_id) WHERE settled_at IS NULL;

CREATE TABLE budgets (
    tenant text NOT NULL,
    owner text,
    scope text NOT NULL CHECK (scope IN ('tenant', 'user')),
    key text NOT NULL,
    month date NOT NULL,
    spent numeric NOT NULL DEFAULT 0,
    reserved numeric NOT NULL DEFAULT 0,
    cap numeric,
    levels numeric[] NOT NULL DEFAULT '{}',
    told numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, scope, key, month)
);
COMMENT ON TABLE budgets IS 'what a month has cost (spent), and what the open attempts may cost at most (reserved), in US dollars';
COMMENT ON COLUMN budgets.key IS 'the user; empty for the tenant';
COMMENT ON COLUMN budgets.cap IS 'as the last reservation was told; NULL: none';
COMMENT ON COLUMN budgets.told IS 'the highest of its levels (parts of the cap) that somebody was told of';

-- Both are written at least twice a row.
ALTER TABLE usage SET (fillfactor = 80);
ALTER TABLE budgets SET (fillfactor = 50);

-- Reserve an amount on one counter. NULL: it has not enough left, and nothing changed. Else whether spent and reserved together
-- come to a level that nobody was told of.
CREATE FUNCTION reserve_usd(
    of_tenant text, of_scope text, of_key text, of_month date, amount numeric, most numeric, tell_at numeric[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    near boolean;
BEGIN
    INSERT INTO budgets AS b (tenant, owner, scope, key, month, reserved, cap, levels)
    SELECT of_tenant, nullif(of_key, ''), of_scope, of_key, of_month, amount, most, tell_at WHERE most IS NULL OR amount <= most
    ON CONFLICT (tenant, scope, key, month) DO UPDATE
    SET reserved = b.reserved + amount, cap = most, levels = tell_at
    WHERE most IS NULL OR b.spent + b.reserved + amount <= most
    RETURNING coalesce(b.spent + b.reserved >= b.cap * (SELECT min(l) FROM unnest(b.levels) l WHERE l > b.told), false)
    INTO near;
    RETURN near;
END
$$;

-- The scopes whose budget of this month has nothing left. No cap: it has.
CREATE FUNCTION exhausted(of_tenant text, of_owner text, tenant_cap numeric, user_cap numeric)
RETURNS TABLE (scope text) LANGUAGE sql STABLE AS $$
    SELECT b.scope FROM budgets b
    WHERE b.tenant = of_tenant AND b.month = date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC')::date
        AND (
            b.scope = 'tenant' AND b.key = '' AND b.spent + b.reserved >= tenant_cap
            OR b.scope = 'user' AND b.key = of_owner AND b.spent + b.reserved >= user_cap
        )
$$;

-- What an attempt may reserve where it was refused that amount: what is left on the counters that have not enough. Nothing where
-- others have reserved on one of these: only who is alone takes the rest. NULL: there is enough by now.
CREATE FUNCTION left_usd(of_tenant text, of_owner text, of_month date, amount numeric, tenant_cap numeric, user_cap numeric)
RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT min(CASE WHEN coalesce(b.reserved, 0) > 0 THEN 0 ELSE bound.cap - coalesce(b.spent, 0) END)
    FROM (VALUES ('tenant', '', tenant_cap), ('user', of_owner, user_cap)) AS bound (scope, key, cap)
    LEFT JOIN budgets b ON b.tenant = of_tenant AND b.scope = bound.scope AND b.key = bound.key AND b.month = of_month
    WHERE bound.key IS NOT NULL AND coalesce(b.spent + b.reserved, 0) + amount > bound.cap
$$;

-- Write an attempt of a run down, and reserve what it may cost on all counters that bound it, or do neither.
-- `outcome`: open; fenced, where the run is not owned under that epoch; or the scope whose budget refused it, and `rest` is what
-- the budgets have left. Always in this order: tenant, then user. A violation of usage_pkey: it was opened before. One that was is not refused for its own reservation.
CREATE FUNCTION open_attempt(
    new_id uuid, of_run text, of_epoch bigint, of_route text, of_provider text, of_model text, nth integer,
    tokens integer, dollars numeric, amount numeric, tenant_cap numeric, user_cap numeric, tell_at numeric[],
    OUT outcome text, OUT near boolean, OUT rest numeric
) LANGUAGE plpgsql AS $$
DECLARE
    run record;
    this_month date := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    also_near boolean;
BEGIN
    near := false;
    SELECT r.tenant, CASE WHEN r.shadow_of IS NULL THEN r.owner END AS owner INTO run FROM runs r
    WHERE r.id = of_run AND r.lease_epoch = of_epoch AND r.status = 'running';
    IF NOT FOUND THEN
        outcome := 'fenced';
        RETURN;
    END IF;
    IF amount > 0 THEN
        near := reserve_usd(run.tenant, 'tenant', '', this_month, amount, tenant_cap, tell_at);
        IF near IS NULL THEN
            outcome := CASE WHEN EXISTS (SELECT FROM usage u WHERE u.id = new_id) THEN 'open' ELSE 'tenant' END;
            near := true;
            rest := left_usd(run.tenant, run.owner, this_month, amount, tenant_cap, user_cap);
            RETURN;
        END IF;
        IF run.owner IS NOT NULL THEN
            also_near := reserve_usd(run.tenant, 'user', run.owner, this_month, amount, user_cap, tell_at);
            IF also_near IS NULL THEN
                UPDATE budgets b SET reserved = b.reserved - amount
                WHERE b.tenant = run.tenant AND b.scope = 'tenant' AND b.key = '' AND b.month = this_month;
                outcome := CASE WHEN EXISTS (SELECT FROM usage u WHERE u.id = new_id) THEN 'open' ELSE 'user' END;
                near := true;
                rest := left_usd(run.tenant, run.owner, this_month, amount, tenant_cap, user_cap);
                RETURN;
            END IF;
            near := near OR also_near;
        END IF;
    END IF;
    INSERT INTO usage (
        id, tenant, owner, kind, run_id, session_id, agent, agent_version, tags, experiments, route, provider, model, number,
        epoch, month, estimated_tokens, estimated_usd, reserved_usd
    )
    SELECT new_id, r.tenant, run.owner, CASE WHEN r.shadow_of IS NULL THEN 'run' ELSE 'shadow' END, of_run, r.session_id,
        r.agent, r.agent_version, r.tags, r.experiments, of_route, of_provider, of_model, nth, of_epoch, this_month, tokens,
        dollars, amount
    FROM runs r WHERE r.id = of_run;
    outcome := 'open';
END
$$;

-- Release what was reserved for an attempt, and charge what it cost, on all counters that bound it: tenant, then user. The levels
-- that they have come to by that, if these are to be told; they count as told then.
CREATE FUNCTION charge_usd(
    of_tenant text, of_owner text, of_month date, released numeric, charged numeric, tell boolean
) RETURNS TABLE (tenant text, scope text, key text, month date, level numeric, spent numeric, cap numeric) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    bound record;
    counter budgets;
BEGIN
    IF released = 0 AND charged = 0 THEN
        RETURN;
    END IF;
    FOR bound IN
        SELECT 'tenant' AS scope, '' AS key UNION ALL SELECT 'user', of_owner WHERE of_owner IS NOT NULL
    LOOP
        INSERT INTO budgets AS b (tenant, owner, scope, key, month, spent)
        VALUES (of_tenant, nullif(bound.key, ''), bound.scope, bound.key, of_month, charged)
        ON CONFLICT (tenant, scope, key, month) DO UPDATE SET spent = b.spent + charged, reserved = b.reserved - released
        RETURNING b.* INTO counter;
        IF tell THEN
            RETURN QUERY SELECT of_tenant, bound.scope, bound.key, of_month, l, counter.spent, counter.cap
            FROM unnest(counter.levels) l WHERE l > counter.told AND counter.spent >= l * counter.cap ORDER BY l;
            IF FOUND THEN
                UPDATE budgets b
                SET told = (SELECT max(l) FROM unnest(counter.levels) l WHERE counter.spent >= l * counter.cap)
                WHERE b.tenant = of_tenant AND b.scope = bound.scope AND b.key = bound.key AND b.month = of_month;
            END IF;
        END IF;
    END LOOP;
END
$$;

-- Settle attempts that are open still; what was settled before stays as it is. The levels as in charge_usd, as a JSON array;
-- NULL where there are none. A shadow run is told of none: nobody reads its journal.
CREATE FUNCTION settle_attempts(what json, tell boolean) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    done record;
    crossed json[] := '{}';
BEGIN
    FOR done IN
        UPDATE usage u SET settled_at = clock_timestamp(), basis = s.basis, outcome = s.outcome, response_model = s.model,
            input_tokens = s.input, cached_input_tokens = s.cache, cache_write_tokens = s.write,
            cache_write_1h_tokens = s.hour, output_tokens = s.output, reasoning_tokens = s.reasoning, cost_usd = s.cost
        FROM json_to_recordset(what) AS s (
            id uuid, basis text, outcome text, model text, input bigint, cache bigint, write bigint, hour bigint,
            output bigint, reasoning bigint, cost numeric
        )
        WHERE u.id = s.id AND u.settled_at IS NULL
        RETURNING u.tenant, u.owner, u.kind, u.month, u.reserved_usd, coalesce(u.cost_usd, 0) AS cost
    LOOP
        crossed := crossed || ARRAY(
            SELECT row_to_json(c)
            FROM charge_usd(
                done.tenant, done.owner, done.month, done.reserved_usd, done.cost, tell AND done.kind <> 'shadow'
            ) c
        );
    END LOOP;
    RETURN CASE WHEN cardinality(crossed) > 0 THEN array_to_json(crossed) END;
END
$$;

-- Settle as abandoned, with the estimate of their input, open attempts that no owner will settle any more. How many. Those of a
-- run that is being executed are its owner's, also where an older one made them: they belong into its journal.
CREATE FUNCTION abandon_attempts(most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    stale record;
    swept integer := 0;
BEGIN
    FOR stale IN
        SELECT u.id, u.tenant, u.owner, u.month, u.reserved_usd, u.estimated_usd, u.estimated_tokens
        FROM usage u LEFT JOIN runs r ON r.id = u.run_id
        WHERE u.settled_at IS NULL AND u.started_at < statement_timestamp() - interval '1 minute'
            AND (r.id IS NULL OR r.status <> 'running')
        ORDER BY u.tenant, u.month, u.owner, u.id LIMIT most FOR UPDATE OF u SKIP LOCKED
    LOOP
        UPDATE usage u SET settled_at = clock_timestamp(), basis = 'abandoned', outcome = 'abandoned',
            input_tokens = stale.estimated_tokens, cost_usd = stale.estimated_usd
        WHERE u.id = stale.id;
        PERFORM charge_usd(
            stale.tenant, stale.owner, stale.month, stale.reserved_usd, coalesce(stale.estimated_usd, 0), false
        );
        swept := swept + 1;
    END LOOP;
    RETURN swept;
END
$$;

-- Write down an attempt outside of a run, whole. Whether it was not there before.
CREATE FUNCTION record_spending(
    new_id uuid, of_tenant text, of_owner text, what text, of_session text, of_agent text, of_version text, of_tags json,
    of_route text, of_provider text, of_model text, made_at timestamptz, how text, came_to text, input bigint, cache bigint,
    write bigint, hour bigint, output bigint, reasoning bigint, cost numeric
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    of_month date := date_trunc('month', made_at AT TIME ZONE 'UTC');
BEGIN
    INSERT INTO usage (
        id, tenant, owner, kind, session_id, agent, agent_version, tags, route, provider, model, number, month, started_at,
        settled_at, basis, outcome, input_tokens, cached_input_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
        reasoning_tokens, cost_usd
    )
    VALUES (
        new_id, of_tenant, of_owner, what, of_session, of_agent, of_version, of_tags, of_route, of_provider, of_model, 1, of_month,
        made_at, clock_timestamp(), how, came_to, input, cache, write, hour, output, reasoning, cost
    )
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM charge_usd(of_tenant, of_owner, of_month, 0, coalesce(cost, 0), false);
    RETURN true;
END
$$;
