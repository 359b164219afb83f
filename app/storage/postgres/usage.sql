-- name: open
-- An attempt, and its reservation on every counter: all of it or nothing. As open_attempt says.
-- $1 id  $2 run  $3 epoch  $4 route  $5 provider  $6 model  $7 number  $8 estimated tokens  $9 what they cost  $10 what to reserve
-- $11 tenant's cap  $12 user's cap  $13 levels
SELECT outcome, near, rest FROM open_attempt(
    $1, $2, $3, $4, $5, $6, $7, $8, $9::text::numeric, $10::text::numeric, $11::text::numeric, $12::text::numeric,
    $13::text::numeric[]
);

-- name: lost
-- What older owners of a run left open.
SELECT id, route, provider, model, number, estimated_tokens AS input_tokens, estimated_usd AS input_usd
FROM usage WHERE run_id = $1 AND settled_at IS NULL AND epoch < $2 ORDER BY started_at, id;

-- name: record
-- An attempt outside of a run, once per id.
SELECT record_spending(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
);

-- name: sweep
-- What no owner will settle any more, so many at most.
SELECT abandon_attempts($1);

-- name: untold
-- Levels that nobody was told of are told now. Who reserves or settles at this moment goes first.
WITH reached AS (
    SELECT tenant, scope, key, month, told, spent, cap, ARRAY(
        SELECT l FROM unnest(levels) l WHERE l > told AND spent >= l * cap ORDER BY l
    ) AS levels
    FROM budgets
    WHERE month >= date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC')::date - 31
        AND EXISTS (SELECT FROM unnest(levels) l WHERE l > told AND spent >= l * cap)
    ORDER BY tenant, scope, key, month FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE budgets b SET told = reached.levels[cardinality(reached.levels)]
    FROM reached
    WHERE b.tenant = reached.tenant AND b.scope = reached.scope AND b.key = reached.key AND b.month = reached.month
)
SELECT tenant, scope, key, month, level, spent AS spent_usd, cap AS cap_usd FROM reached, unnest(reached.levels) AS level
ORDER BY tenant, scope, key, level;

-- name: report
-- What is settled, by groups and in all: the row without a group (`whole`) is everything together.
-- $1 tenant  $2 user  $3 since  $4 until  $5 what to group by  $6 the tag's name
-- First one row a run and group, so that a run counts once in each; sorted by bytes, which takes half as long as by language.
WITH by_request AS (
    SELECT CASE $5
            WHEN 'day' THEN to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            WHEN 'month' THEN to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM')
            WHEN 'agent' THEN agent
            WHEN 'model' THEN provider || '/' || model
            WHEN 'user' THEN owner
            ELSE tags ->> $6::text
        END COLLATE "C" AS key,
        coalesce(run_id, id::text) COLLATE "C" AS request, count(*) AS attempts, sum(input_tokens) AS input_tokens,
        sum(cached_input_tokens) AS cached_input_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(cache_write_1h_tokens) AS cache_write_1h_tokens, sum(output_tokens) AS output_tokens,
        sum(reasoning_tokens) AS reasoning_tokens, sum(cost_usd) AS cost_usd,
        count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced, count(*) FILTER (WHERE basis <> 'provider') AS estimated,
        count(*) FILTER (WHERE basis = 'abandoned') AS abandoned
    FROM usage
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND settled_at IS NOT NULL
        AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4)
    GROUP BY 1, 2
), requests AS (
    SELECT count(DISTINCT request) AS whole FROM by_request
)
SELECT key, grouping(key) = 1 AS whole,
    CASE WHEN grouping(key) = 1 THEN (SELECT r.whole FROM requests r) ELSE count(*) END AS requests,
    coalesce(sum(attempts), 0)::bigint AS attempts,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(cache_write_tokens)::bigint AS cache_write_tokens, sum(cache_write_1h_tokens)::bigint AS cache_write_1h_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(reasoning_tokens)::bigint AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, coalesce(sum(unpriced), 0)::bigint AS unpriced,
    coalesce(sum(estimated), 0)::bigint AS estimated, coalesce(sum(abandoned), 0)::bigint AS abandoned
FROM by_request GROUP BY GROUPING SETS ((key), ())
ORDER BY grouping(key), key NULLS LAST;
