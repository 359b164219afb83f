-- name: off
-- Everything that is switched off.
SELECT nullif(tenant, '') AS tenant, kind, name, reason FROM controls;

-- name: controls
-- What is off for a tenant, by itself or for everybody; of tenants only its own. $1 NULL: what is off for everybody.
SELECT kind, name, CASE WHEN tenant = '' THEN 'instance' ELSE 'tenant' END AS reach, reason, actor AS by, at FROM controls
WHERE tenant IN ('', $1::text) AND ($1 IS NULL OR kind <> 'tenant' OR name = $1)
ORDER BY kind, name, reach;

-- name: stored
-- Whether a stored version of an agent has that name, or a tool of that name. $1 kind  $2 name  $3 tenants, NULL: all
SELECT FROM agent_versions
WHERE ($3::text [] IS NULL OR tenant = ANY($3))
    AND CASE
        WHEN $1 = 'agent' THEN name = $2
        ELSE EXISTS (SELECT FROM json_array_elements(definition -> 'tools') AS tool WHERE tool ->> 'name' = $2)
    END
LIMIT 1;

-- name: seen
-- Whether anything is of that tenant: a key, a session, a run or a batch. $1 tenant
SELECT FROM unnest(ARRAY[$1::text]) AS t (tenant)
WHERE EXISTS (SELECT FROM api_keys k WHERE k.tenant = t.tenant) OR EXISTS (SELECT FROM sessions s WHERE s.tenant = t.tenant)
    OR EXISTS (SELECT FROM runs r WHERE r.tenant = t.tenant) OR EXISTS (SELECT FROM batches b WHERE b.tenant = t.tenant);

-- name: disable
-- Switch something off, write that down, and tell every process.
-- $1 tenant, empty for all  $2 kind  $3 name  $4 reason  $5 actor  $6 its user  $7 whose audit log  $8 detail  $9 channel
WITH control AS (
    INSERT INTO controls (tenant, kind, name, reason, actor, owner) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant, kind, name) DO UPDATE
    SET reason = excluded.reason, actor = excluded.actor, owner = excluded.owner, at = excluded.at
    RETURNING kind, name, reason, actor, at
), entry AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT $7, $5, $6, 'control.disabled', kind || ':' || name, $8::json FROM control
)
SELECT kind, name, CASE WHEN $1 = '' THEN 'instance' ELSE 'tenant' END AS reach, reason, actor AS by, at, pg_notify($9, 'c') AS told
FROM control;

-- name: enable
-- Switch something on again, if it was off; as disable. $4 actor  $5 its user  $6 whose audit log  $7 detail  $8 channel
WITH control AS (
    DELETE FROM controls WHERE tenant = $1 AND kind = $2 AND name = $3 RETURNING kind, name
), entry AS (
    INSERT INTO audit (tenant, actor, owner, action, target, detail)
    SELECT $6, $4, $5, 'control.enabled', kind || ':' || name, $7::json FROM control
)
SELECT pg_notify($8, 'c') AS told FROM control;
