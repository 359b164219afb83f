"""What keeps cached answers right: one lead for a question, whose it is, and what is not kept."""

from __future__ import annotations

from ops.mutants.run import Mutant

CACHE_TESTS = "tests/runs/test_cache.py"
LEADS = "tests/runs/test_leads.py"

CACHE = (
    Mutant(
        name="one lead in a process",
        file="app/runs/answers.py",
        old="            if lead is None:\n",
        new="            if lead is None or True:\n",
        tests=(f"{LEADS}::test_many_at_once_are_one_call",),
    ),
    Mutant(
        name="one lead among processes",
        file="app/runs/answers.py",
        old="                taken = await self._far.take(question.key, lead.holder, self._lease)\n",
        new="                taken = True\n",
        tests=("tests/runs/test_shared_cache.py",),
    ),
    Mutant(
        name="a lead is looked at once more",
        file="app/runs/answers.py",
        old="                    continue\n",
        new="                    break\n",
        tests=("tests/runs/test_shared_cache.py",),
    ),
    Mutant(
        name="the tenant in a question",
        file="app/runs/questions.py",
        old="        owned.tenant,\n        # What",
        new='        "",\n        # What',
        tests=(CACHE_TESTS,),
    ),
    Mutant(
        name="the user in a question to tools",
        file="app/runs/questions.py",
        old="        owned.user_id if agent.tools else None,\n",
        new="        None,\n",
        tests=(f"{CACHE_TESTS}::test_answers_of_tools_are_their_users_own",),
    ),
    Mutant(
        name="the history in a question",
        file="app/runs/questions.py",
        old="        _said(state.history),\n",
        new="        None,\n",
        tests=(CACHE_TESTS,),
    ),
    Mutant(
        name="turns that write are not kept",
        file="app/runs/cached_turn.py",
        old='        if any(spec is None or spec.effect != "read" for spec in specs):\n',
        new="        if any(spec is None for spec in specs):\n",
        tests=(CACHE_TESTS,),
    ),
    Mutant(
        name="a degraded lead is the next one's",
        file="app/runs/cached_turn.py",
        old='        if finished.status != "succeeded" or finished.degraded:\n',
        new='        if finished.status != "succeeded":\n',
        tests=(LEADS,),
    ),
    Mutant(
        name="nothing begun before a drop, here",
        file="app/storage/local/answers.py",
        old="        if dropped:\n",
        new="        if False:\n",
        tests=(LEADS,),
    ),
    Mutant(
        name="nothing begun before a drop, there",
        file="app/storage/redis/keep_answer.lua",
        old="~= ARGV[3 + n] then return 0 end",
        new="== 'never' then return 0 end",
        tests=("tests/runs/test_shared_cache.py",),
    ),
    Mutant(
        name="near questions and guards",
        file="app/runs/alike.py",
        old="if not near_miss(entry.point.text, point.text)",
        new="if True",
        tests=("tests/runs/test_alike.py",),
    ),
)
