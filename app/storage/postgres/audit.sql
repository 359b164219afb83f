-- name: record
-- Add an entry.
INSERT INTO audit (tenant, actor, owner, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: entries
-- A page of a tenant's entries, newest first. A principal with a user sees what that user decided.
SELECT id, at, actor, owner AS user_id, action, target, detail FROM audit
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::text IS NULL OR action = $3) AND ($4::text IS NULL OR target = $4) AND ($5::bigint IS NULL OR id < $5)
ORDER BY id DESC LIMIT $6;
