-- Who decided what: entries that are only ever added.

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    owner text,
    action text NOT NULL,
    target text NOT NULL,
    detail json NOT NULL
);
COMMENT ON COLUMN audit.actor IS 'local, key:ID, jwt:SUBJECT, or system';
COMMENT ON COLUMN audit.owner IS 'the user who decided; NULL: none is known';
CREATE INDEX audit_by_tenant ON audit (tenant, id DESC);
CREATE INDEX audit_by_target ON audit (tenant, target, id DESC);

CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the audit log are neither changed nor removed' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_kept();
