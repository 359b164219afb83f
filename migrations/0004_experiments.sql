-- Which variants a run was exposed to, and shadow runs in sessions of their own, which go with the run that they shadow.
-- Its indexes are built in the transaction: no row can be in them yet, so each takes one look at a table that is small so far.
-- squawk-ignore-file require-concurrent-index-creation

ALTER TABLE runs ADD COLUMN experiments json, ADD COLUMN shadow_of text;
COMMENT ON COLUMN runs.experiments IS 'variants by experiment; NULL: it was in none';
COMMENT ON COLUMN runs.shadow_of IS 'the run that this one repeats to see what another variant would have said';

ALTER TABLE sessions ADD COLUMN shadow_of text;
COMMENT ON COLUMN sessions.shadow_of IS 'it holds what its user said elsewhere: gone with that run, and in no list';

-- Every row has NULL there, so there is nothing to be validated.
ALTER TABLE sessions ADD CONSTRAINT sessions_shadow_of
    FOREIGN KEY (shadow_of) REFERENCES runs (id) ON DELETE CASCADE NOT VALID;

CREATE INDEX sessions_shadows ON sessions (shadow_of) WHERE shadow_of IS NOT NULL;
CREATE INDEX runs_shadows ON runs (shadow_of) WHERE shadow_of IS NOT NULL;
CREATE INDEX runs_live_shadows ON runs (id) WHERE shadow_of IS NOT NULL AND status IN ('queued', 'running', 'waiting');
