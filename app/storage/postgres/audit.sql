-- name: record
-- Add an entry.
INSERT INTO audit (tenant, actor, owner, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: entries
-- A page of a tenant's entries and of those about all tenants (kept under no name), newest first. A principal with a user sees what
-- that user decided.
SELECT entry.* FROM unnest(ARRAY[$1::text, '']) AS log (tenant)
CROSS JOIN LATERAL (
    SELECT a.id, a.at, a.actor, a.owner AS user_id, a.action, a.target, a.detail FROM audit a
    WHERE a.tenant = log.tenant AND ($2::text IS NULL OR (a.owner = $2 AND a.tenant <> ''))
        AND ($3::text IS NULL OR a.action = $3) AND ($4::text IS NULL OR a.target = $4) AND ($5::bigint IS NULL OR a.id < $5)
    ORDER BY a.id DESC LIMIT $6
) AS entry
ORDER BY entry.id DESC LIMIT $6;
