"""The mechanisms of batches: nothing is sent twice, no result counts twice."""

from __future__ import annotations

from ops.mutants.run import Mutant

VISIT = "app/batches/visit.py"
STORE = "app/storage/postgres/batches.sql"
DURABILITY = "tests/batches/test_durability.py"
WHOLE = "tests/batches/test_whole.py"

BATCHES = (
    Mutant(
        name="a part is looked for before it is sent again",
        file=VISIT,
        old='            "submitting": self._recover,\n',
        new='            "submitting": self._send,\n',
        tests=(DURABILITY,),
    ),
    Mutant(
        name="a part is written down before it is sent",
        file=STORE,
        old="UPDATE batch_parts SET status = 'submitting', marker = $2,",
        new="UPDATE batch_parts SET status = 'due', marker = $2,",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="what may be there is not sent",
        file=VISIT,
        old="        elif not found.certain:\n",
        new="        elif False:\n",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="a lost answer is no refusal",
        file=VISIT,
        old='            if error.unsent or error.kind == "auth" or (400 <= status < 500 and status != 408):\n',
        new="            if error.unsent or status < 1000:\n",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="known parts are not taken for others",
        file="app/llm/anthropic_batch.py",
        old="if total != count or batch.id in known:",
        new="if total != count:",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="a part is known by its results",
        file="app/llm/anthropic_batch.py",
        old='                    return said.custom_id.rpartition("_")[0] == part_id\n',
        new="                    return True\n",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="a part is known by its metadata",
        file="app/llm/openai_batch.py",
        old="                metadata={TAG: part_id},\n",
        new='                metadata={TAG: ""},\n',
        tests=(DURABILITY,),
    ),
    Mutant(
        name="what was sent for nobody is cancelled",
        file=VISIT,
        old="        elif await self._store.remote_id(part.id) != remote_id:\n",
        new="        elif False:\n",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="epoch of a part",
        file=STORE,
        old="SELECT id FROM batch_parts WHERE id = $1 AND epoch = $2 AND status <> 'ended' FOR UPDATE;",
        new="SELECT id FROM batch_parts WHERE id = $1 AND $2::bigint IS NOT NULL AND status <> 'ended' FOR UPDATE;",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="a claim lasts as long as the work",
        file="app/batches/jobs.py",
        old="            await asyncio.sleep(self._claim / 4)\n",
        new="            await asyncio.sleep(self._claim * 1000)\n",
        tests=(DURABILITY,),
    ),
    Mutant(
        name="the first result of an item counts",
        file="app/storage/postgres/batches.py",
        old="        outcomes = list({outcome.n: outcome for outcome in reversed(outcomes)}.values())  # the first of each item\n",
        new="",
        tests=(WHOLE,),
    ),
    Mutant(
        name="an item has one outcome",
        file=STORE,
        old="WHERE i.batch_id = $1 AND i.n = o.n AND i.part_id = $2 AND i.status = 'pending' AND i.otherwise IS NULL\n",
        new="WHERE i.batch_id = $1 AND i.n = o.n AND i.part_id = $2\n",
        tests=(DURABILITY, WHOLE),
    ),
    Mutant(
        name="a batch costs half",
        file="app/llm/batch_files.py",
        old='        attempt.service_tier = "batch"\n',
        new="",
        tests=(WHOLE,),
    ),
)
