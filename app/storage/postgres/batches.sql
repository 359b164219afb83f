-- name: open
-- How many batches of the tenant have not ended. Creations of one tenant are counted one after another.
SELECT count(*) FROM batches WHERE tenant = $1 AND finished_at IS NULL;

-- name: lock_tenant
-- Creations of one tenant come one after another, to the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('batches ' || $1, 0));

-- name: create
-- A batch; nothing where it is there already.
-- $1 id  $2 tenant  $3 owner  $4 agent  $5 version  $6 route  $7 provider  $8 model  $9 tags  $10 items  $11 seconds until it expires
INSERT INTO batches (id, tenant, owner, agent, agent_version, route, provider, model, tags, items, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + make_interval(secs => $11))
ON CONFLICT (id) DO NOTHING;

-- name: exhausted
-- Which of the month's budgets has nothing left.
-- $1 tenant  $2 user  $3 tenant's cap  $4 user's cap
SELECT scope FROM exhausted($1, $2, $3, $4) ORDER BY scope LIMIT 1;

-- name: forget
-- A batch that is refused after all.
DELETE FROM batches WHERE id = $1;

-- name: create_parts
-- Its parts, due now.
-- $1 batch  $2 tenant  $3 owner  $4 ids  $5 how many items each has
INSERT INTO batch_parts (id, batch_id, tenant, owner, items)
SELECT p.id, $1, $2, $3, p.items FROM unnest($4::text[], $5::integer[]) AS p (id, items);

-- name: create_items
-- Some of its items.
-- $1 batch  $2 tenant  $3 owner  $4 places  $5 parts  $6 custom ids  $7 inputs  $8 contexts  $9 tags
INSERT INTO batch_items (batch_id, n, tenant, owner, part_id, custom_id, input, context, tags)
SELECT $1, i.n, $2, $3, i.part_id, i.custom_id, i.input, i.context, i.tags
FROM unnest($4::integer[], $5::text[], $6::text[], $7::json[], $8::json[], $9::json[])
    AS i (n, part_id, custom_id, input, context, tags);

-- name: batch
-- One batch.
-- $1 tenant  $2 user  $3 id
SELECT id, agent, agent_version, owner AS user_id, provider, model, status, tags, items, succeeded, errored, expired, cancelled,
    usage, CASE WHEN NOT unpriced THEN cost_usd END AS cost_usd, error, created_at, expires_at, cancelled_at, finished_at
FROM batches WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3;

-- name: batches
-- A page of batches, newest first.
-- $1 tenant  $2 user  $3, $4 the last of the page before  $5 how many
SELECT id, agent, agent_version, owner AS user_id, provider, model, status, tags, items, succeeded, errored, expired, cancelled,
    usage, CASE WHEN NOT unpriced THEN cost_usd END AS cost_usd, error, created_at, expires_at, cancelled_at, finished_at
FROM batches
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2)
    AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
ORDER BY created_at DESC, id DESC LIMIT $5;

-- name: results
-- Items after a place, in order.
-- $1 tenant  $2 user  $3 batch  $4 place  $5 how many
SELECT i.custom_id, i.status, i.output, i.stop, i.error, i.usage, i.cost_usd FROM batch_items i
WHERE i.batch_id = $3 AND i.tenant = $1 AND ($2::text IS NULL OR i.owner = $2) AND i.n > $4
ORDER BY i.n LIMIT $5;

-- name: cancel
-- Nothing more of it is sent.
-- $1 tenant  $2 user  $3 batch
UPDATE batches SET cancelled_at = clock_timestamp(), status = 'cancelling'
WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3 AND finished_at IS NULL AND cancelled_at IS NULL;

-- name: hurry
-- Its parts that nobody works on are looked at now; one that is claimed when its owner lets go of it.
-- $1 batch
UPDATE batch_parts SET next_at = clock_timestamp(), tries = 0
WHERE batch_id = $1 AND status <> 'ended' AND NOT claimed;

-- name: claim
-- Take the part that is due longest, and put it out of everybody else's sight for so many seconds.
-- $1 seconds  $2 seconds after its expiry in which the provider must have ended it
WITH due AS (
    SELECT id FROM batch_parts WHERE status <> 'ended' AND next_at <= statement_timestamp()
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE batch_parts p SET epoch = p.epoch + 1, claimed = true, next_at = clock_timestamp() + make_interval(secs => $1)
FROM due, batches b WHERE p.id = due.id AND b.id = p.batch_id
RETURNING p.id, p.batch_id, p.tenant, p.owner AS user_id, b.agent, b.agent_version, b.provider, b.model, p.status, p.epoch, p.items,
    p.marker, p.remote_id, p.tries, b.cancelled_at IS NOT NULL AS cancelled, b.expires_at <= clock_timestamp() AS expired, p.told,
    b.expires_at + make_interval(secs => $2) <= clock_timestamp() AS overdue;

-- name: extend
-- The claim lasts so much longer.
-- $1 part  $2 epoch  $3 seconds
UPDATE batch_parts SET next_at = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND epoch = $2 AND claimed AND status <> 'ended';

-- name: items
-- Items of a part that have no outcome yet, in order.
-- $1 batch  $2 part  $3 place  $4 how many
SELECT n, input, context, tags FROM batch_items
WHERE batch_id = $1 AND part_id = $2 AND status = 'pending' AND n > $3
ORDER BY n LIMIT $4;

-- name: lock
-- Writes to one batch come one after another. Always taken before a part's row.
SELECT usage, cancelled_at IS NULL AND expires_at > clock_timestamp() AS open FROM batches WHERE id = $1 FOR UPDATE;

-- name: fence
-- The part, if it is ours still.
-- $1 part  $2 epoch
SELECT id FROM batch_parts WHERE id = $1 AND epoch = $2 AND status <> 'ended' FOR UPDATE;

-- name: intend
-- It is being sent.
-- $1 part  $2 marker
UPDATE batch_parts SET status = 'submitting', marker = $2, remote_id = NULL WHERE id = $1;

-- name: noted
-- The provider has it.
-- $1 part  $2 the provider's id
UPDATE batch_parts SET status = 'in_progress', remote_id = $2, tries = 0 WHERE id = $1;

-- name: known
-- What is known to be at the providers.
SELECT remote_id FROM batch_parts WHERE status IN ('in_progress', 'collecting') AND remote_id IS NOT NULL;

-- name: collecting
-- The provider has ended it.
-- $1 part
UPDATE batch_parts SET status = 'collecting', tries = 0 WHERE id = $1;

-- name: told
-- The provider was told to cancel it.
-- $1 part  $2 epoch
UPDATE batch_parts SET told = true WHERE id = $1 AND epoch = $2;

-- name: pause
-- Nobody works on it for so many seconds, or not at all where its batch was cancelled meanwhile.
-- $1 part  $2 status  $3 seconds  $4 tries  $5 whether its owner knew of a cancellation
UPDATE batch_parts p SET status = $2, tries = $4, claimed = false,
    remote_id = CASE WHEN $2 <> 'due' THEN p.remote_id END,
    next_at = clock_timestamp()
        + make_interval(secs => CASE WHEN b.cancelled_at IS NOT NULL AND NOT $5 AND $2 <> 'submitting' THEN 0 ELSE $3 END)
FROM batches b WHERE p.id = $1 AND b.id = p.batch_id;

-- name: give_back
-- A claim that is over.
-- $1 part  $2 epoch
UPDATE batch_parts SET claimed = false, next_at = clock_timestamp()
WHERE id = $1 AND epoch = $2 AND claimed AND status IN ('due', 'in_progress', 'collecting');

-- name: remote_id
-- The provider's id of a part.
SELECT remote_id FROM batch_parts WHERE id = $1;

-- name: unanswered
-- Items of a part that no result has spoken of.
-- $1 part
SELECT count(*) FROM batch_items WHERE part_id = $1 AND status = 'pending' AND otherwise IS NULL;

-- name: record
-- The first outcome of each item in that part. One that may be sent again stays pending, and keeps what it is otherwise.
-- $1 batch  $2 part  $3 places  $4 statuses  $5 outputs  $6 stops  $7 errors  $8 usages  $9 costs  $10 which may be sent again
UPDATE batch_items i SET
    status = CASE WHEN o.again THEN i.status ELSE o.status END,
    otherwise = CASE WHEN o.again THEN o.status END,
    output = o.output, stop = o.stop, error = o.error, usage = coalesce(o.usage, i.usage),
    cost_usd = coalesce(o.cost + coalesce(i.cost_usd, 0), i.cost_usd),
    finished_at = CASE WHEN NOT o.again THEN clock_timestamp() END
FROM unnest($3::integer[], $4::text[], $5::json[], $6::text[], $7::json[], $8::json[], $9::numeric[], $10::boolean[])
    AS o (n, status, output, stop, error, usage, cost, again)
WHERE i.batch_id = $1 AND i.n = o.n AND i.part_id = $2 AND i.status = 'pending' AND i.otherwise IS NULL
RETURNING i.n, i.status;

-- name: spend
-- What was used for those items goes into the ledger, once for each part that they travel in.
-- $1 batch  $2 places  $3 ids  $4 bases  $5 outcomes  $6 models  $7 to $12 tokens  $13 costs
SELECT count(record_spending(
    s.id, b.tenant, b.owner, 'batch', NULL, b.agent, b.agent_version, (b.tags::jsonb || i.tags::jsonb)::json, b.route, b.provider,
    s.model, clock_timestamp(), s.basis, s.outcome, s.input, s.cache, s.write, s.hour, s.output, s.reasoning, s.cost
))
FROM batches b JOIN batch_items i ON i.batch_id = b.id
JOIN unnest(
    $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
    $11::bigint[], $12::bigint[], $13::numeric[]
) AS s (n, id, basis, outcome, model, input, cache, write, hour, output, reasoning, cost) ON s.n = i.n
WHERE b.id = $1;

-- name: count
-- What the batch has more than before.
-- $1 batch  $2 succeeded  $3 errored  $4 expired  $5 cancelled  $6 usage, the sum  $7 dollars  $8 whether some price is not known
UPDATE batches SET succeeded = succeeded + $2, errored = errored + $3, expired = expired + $4, cancelled = cancelled + $5,
    usage = $6, cost_usd = cost_usd + $7, unpriced = unpriced OR $8
WHERE id = $1;

-- name: send_again
-- Items without an outcome that have not travelled too often go into a new part.
-- $1 batch  $2 part  $3 the new part  $4 how often an item may be sent  $5 seconds until it is due
WITH unfinished AS (
    SELECT count(*)::integer AS items FROM batch_items
    WHERE batch_id = $1 AND part_id = $2 AND status = 'pending' AND sent < $4
), part AS (
    INSERT INTO batch_parts (id, batch_id, tenant, owner, items, next_at)
    SELECT $3, p.batch_id, p.tenant, p.owner, unfinished.items, clock_timestamp() + make_interval(secs => $5)
    FROM unfinished, batch_parts p WHERE p.id = $2 AND unfinished.items > 0
    RETURNING id
)
UPDATE batch_items i SET part_id = part.id, sent = i.sent + 1, otherwise = NULL, error = NULL
FROM part WHERE i.batch_id = $1 AND i.part_id = $2 AND i.status = 'pending' AND i.sent < $4;

-- name: settle
-- Items of a part that have no outcome yet get theirs.
-- $1 batch  $2 part  $3 status  $4 error
UPDATE batch_items SET status = coalesce(otherwise, $3), error = coalesce(error, $4), finished_at = clock_timestamp()
WHERE batch_id = $1 AND part_id = $2 AND status = 'pending'
RETURNING status;

-- name: end
-- Nothing more happens to it.
-- $1 part  $2 whether none of it could be done
UPDATE batch_parts SET status = 'ended', claimed = false, failed = $2 WHERE id = $1;

-- name: roll_up
-- The batch's status from its parts'. What keeps it from being done is told until it is over.
-- $1 batch  $2 error
UPDATE batches b SET
    status = CASE
        WHEN p.open > 0 AND b.cancelled_at IS NOT NULL THEN 'cancelling'
        WHEN p.open > 0 THEN coalesce(p.furthest, 'queued')
        WHEN b.cancelled_at IS NOT NULL THEN 'cancelled'
        WHEN b.succeeded = 0 AND p.all_failed THEN 'failed'
        ELSE 'ended'
    END,
    error = coalesce($2, CASE WHEN p.some_failed THEN b.error END),
    finished_at = CASE WHEN p.open = 0 THEN clock_timestamp() END
FROM (
    SELECT count(*) FILTER (WHERE status <> 'ended') AS open, bool_and(failed) AS all_failed, bool_or(failed) AS some_failed,
        CASE max(CASE status WHEN 'collecting' THEN 3 WHEN 'in_progress' THEN 2 WHEN 'submitting' THEN 1 ELSE 0 END)
            WHEN 3 THEN 'collecting' WHEN 2 THEN 'in_progress' WHEN 1 THEN 'submitting' END AS furthest
    FROM batch_parts WHERE batch_id = $1
) p
WHERE b.id = $1 AND b.finished_at IS NULL;
