-- name: use
-- Count a call of a tool, once. NULL, or the cap that it would exceed.
-- $1 run  $2 call  $3 tenant  $4 user or ''  $5 tool  $6 amount  $7 to $9 caps of calls per run, calls, amount  $10 seconds  $11 whether all of the tenant's count
SELECT use_tool($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
