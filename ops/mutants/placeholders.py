"""What models read: no page takes words away, the same text is hidden the same way."""

from __future__ import annotations

from ops.mutants.run import Mutant

NAMES = "app/domain/screening.py"
HIDDEN = ("tests/safety/test_placeholders.py",)

PLACEHOLDERS = (
    Mutant(
        name="a page's secrets are its own",
        file=NAMES,
        old='        kind = READ if read and kind == "SECRET" else kind\n',
        new="",
        tests=HIDDEN,
    ),
    Mutant(
        name="words are no secrets elsewhere",
        file=NAMES,
        old="    return kind != READ and len(value) >= LEAST and classes >= 2",
        new="    return kind != READ and classes >= 0",
        tests=HIDDEN,
    ),
    Mutant(
        name="a page has not all the room",
        file=NAMES,
        old="(MOST_READ if read else MOST)",
        new="MOST",
        tests=HIDDEN,
    ),
    Mutant(
        name="one given out twice names its last value",
        file=NAMES,
        old="placeholder is not None and self.values[placeholder] == value",
        new="placeholder is not None",
        tests=HIDDEN,
    ),
    Mutant(
        name="an escape is passed over whole",
        file=NAMES,
        old='re.compile(r"\\\\[^u]|(?:<',
        new='re.compile(r"(?:<',
        tests=HIDDEN,
    ),
    Mutant(
        name="known values are words of their own",
        file="app/domain/known.py",
        old="(start and _of_word(text[start - 1]))",
        new="False",
        tests=HIDDEN,
    ),
)
