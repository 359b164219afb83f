-- Why a person was asked, and who answered.

ALTER TABLE approvals ADD COLUMN grounds json, ADD COLUMN resolved_actor text;
COMMENT ON COLUMN approvals.digest IS 'SHA-256 over the tool and the arguments that the word is about; NULL: asked by an older release';
COMMENT ON COLUMN approvals.grounds IS 'why a person was asked, and what the model had read; NULL: asked by an older release';
COMMENT ON COLUMN approvals.resolved_actor IS 'as audit.actor';
