-- name: notify
-- Tell every listening process of this database. $1 channel  $2 payloads
SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload;

-- name: others
-- Whether another process listens. $1 our own application_name
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, 'steadyhand bus ') AND application_name <> $1
);
