-- The service's own role in PostgreSQL: it uses the tables and owns none, so it can neither switch the audit log's trigger off nor drop a table.
-- Run it once, after `steadyhand migrate`, connected as the role that owns the tables:
--     psql "$OWNER_URL" -v role=steadyhand_app -f ops/database_role.sql
-- From then on DATABASE_URL of `serve`, `worker` and the other commands names this role, and only `steadyhand migrate` gets the owner's.
-- The role itself (CREATE ROLE steadyhand_app LOGIN PASSWORD …) is made before, by whoever may make roles.
GRANT USAGE ON SCHEMA public TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :role;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :role;
REVOKE UPDATE, DELETE ON audit FROM :role;
REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM :role;
-- What later migrations of this owner make.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO :role;
