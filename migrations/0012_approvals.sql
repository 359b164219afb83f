-- Why a person was asked, and who answered; the audit log by what its entries are about.
-- squawk-ignore-file require-concurrent-index-creation

ALTER TABLE approvals ADD COLUMN grounds json, ADD COLUMN resolved_actor text;
COMMENT ON COLUMN approvals.digest IS 'SHA-256 over the tool and the arguments that the word is about; NULL: asked by an older release';
COMMENT ON COLUMN approvals.grounds IS 'why a person was asked, and what the model had read; NULL: asked by an older release';
COMMENT ON COLUMN approvals.resolved_actor IS 'as audit.actor';

-- Built in the transaction: the log is new, so it takes one look at a table that is small so far.
CREATE INDEX audit_by_target ON audit (tenant, target, id DESC);
