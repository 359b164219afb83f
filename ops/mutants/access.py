"""Who may do what: how long a withdrawn key is trusted, whose a row is, and what is told of a switch."""

from __future__ import annotations

from ops.mutants.run import Mutant

KNOWN = "tests/access/test_known.py"
ISSUER_KEYS = "tests/access/test_issuer_keys.py"
BATCHES = "tests/storage/postgres/test_batches.py"

ACCESS = (
    Mutant(
        name="a change of keys is heeded within a second",
        file="app/access/known.py",
        old="STALE = 0.8\n",
        new="STALE = 8.0\n",
        tests=(KNOWN,),
    ),
    Mutant(
        name="open streams do not wait for a key to be stale",
        file="app/access/known.py",
        old="            await self.state(FRESH)\n",
        new="            await self.state()\n",
        tests=(KNOWN,),
    ),
    Mutant(
        name="open streams are not behind strangers",
        file="app/access/known.py",
        old="await self._answer(self._look_up(missing))",
        new="[await self._answer(self._in_turn(one)) for one in missing]",
        tests=(KNOWN,),
    ),
    Mutant(
        name="withdrawn keys after an idle time",
        file="app/access/jwks.py",
        old="(age > LIFETIME and now - self._failed_at > EXCUSED)",
        new="False",
        tests=(ISSUER_KEYS,),
    ),
    Mutant(
        name="a failed fetch is no excuse for ever",
        file="app/access/jwks.py",
        old="now - self._failed_at > EXCUSED",
        new="self._failed is None",
        tests=(ISSUER_KEYS,),
    ),
    Mutant(
        name="a private key verifies nothing",
        file="app/access/jwks.py",
        old=' or "d" in key',
        new="",
        tests=(ISSUER_KEYS,),
    ),
    Mutant(
        name="whose limits may be used up",
        file="app/api/limits.py",
        old="        principal.acting_for(user_id)\n",
        new="",
        tests=("tests/api/test_limits.py",),
    ),
    Mutant(
        name="whose audit log",
        file="app/storage/postgres/audit.sql",
        old="WHERE a.tenant = log.tenant AND",
        new="WHERE log.tenant = log.tenant AND",
        tests=("tests/api/test_tenancy.py",),
    ),
    Mutant(
        name="whose results of a batch",
        file="app/storage/postgres/batches.sql",
        old="WHERE i.batch_id = $3 AND i.tenant = $1 AND ($2::text IS NULL OR i.owner = $2)",
        new="WHERE i.batch_id = $3 AND $1::text <> '' AND ($2::text IS NULL OR $2 <> '')",
        tests=(BATCHES,),
    ),
    Mutant(
        name="whose batch is cancelled",
        file="app/storage/postgres/batches.sql",
        old="WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) AND id = $3 AND finished_at",
        new="WHERE $1::text <> '' AND ($2::text IS NULL OR $2 <> '') AND id = $3 AND finished_at",
        tests=(BATCHES,),
    ),
    Mutant(
        name="an overtaken look at the switches",
        file="app/runs/switches.py",
        old="        if look < self._newest:\n",
        new="        if False:\n",
        tests=("tests/runs/test_switches.py",),
    ),
)
