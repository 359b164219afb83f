"""What answers show: nothing that is fetched by being shown, no value in an address, no instructions."""

from __future__ import annotations

from ops.mutants.run import Mutant

RENDERING = "app/safety/rendering.py"
SHOWN = ("tests/safety/test_rendering.py",)

SCREENING = (
    Mutant(
        name="a tag is known or apart",
        file=RENDERING,
        old='        if window[end : end + 1] != ">":\n            return end < len(window) or _WORD.fullmatch(within[0]) is None\n',
        new='        if window[end : end + 1] != ">":\n            return False\n',
        tests=SHOWN,
    ),
    Mutant(
        name="a definition after an image is apart",
        file=RENDERING,
        old="            return self._bare\n",
        new="            return False\n",
        tests=SHOWN,
    ),
    Mutant(
        name="an image after a definition is apart",
        file=RENDERING,
        old="        if self._defined or _BARE",
        new="        if _BARE",
        tests=SHOWN,
    ),
    Mutant(
        name="style sheets are plain",
        file=RENDERING,
        old="            return _PLAIN_STYLE.fullmatch(value) is None\n",
        new="            return False\n",
        tests=SHOWN,
    ),
    Mutant(
        name="values come back in no address",
        file="app/safety/restored.py",
        old="match[0] if self._in_address() else self._show(match[0])",
        new="self._show(match[0])",
        tests=("tests/safety/test_restored.py",),
    ),
    Mutant(
        name="addresses after a bracket have spaces",
        file="app/safety/restored.py",
        old='                self._angle = mark == "<"\n',
        new="                self._angle = False\n",
        tests=("tests/safety/test_restored.py",),
    ),
    Mutant(
        name="no values where answers show no personal data",
        file="app/runs/screened.py",
        old=' and policy.output != "pii"',
        new="",
        tests=("tests/runs/test_shown_values.py",),
    ),
    Mutant(
        name="what is no JSON is guarded",
        file="app/safety/structured.py",
        old="            self._prose = True\n            return to\n",
        new="            shown.append(text[to])\n            return to + 1\n",
        tests=("tests/safety/test_structured.py",),
    ),
    Mutant(
        name="a row of words ends",
        file="app/safety/leaks.py",
        old="        if self._since > APART:\n",
        new="        if False:\n",
        tests=("tests/safety/test_leaks.py",),
    ),
    Mutant(
        name="numbers of lists are no words",
        file="app/safety/leaks.py",
        old="            if _counts(word):\n",
        new="            if word:\n",
        tests=("tests/safety/test_leaks.py",),
    ),
)
