"""A model that repeats its instructions, noticed word by word."""

from __future__ import annotations

import re

SAID = 20
"""Words of the instructions in a row that are a leak."""
HELD = 8
"""From so many words in a row on they are held back."""
APART = 400
"""Characters from the end of one word of a row to that of the next, at most: what is longer ends the row."""
BOUND = SAID * APART
"""Characters that are held back at most."""
REMOVED = "[instructions removed]"
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that have no spaces between words, those of Thailand, Laos, Myanmar, Cambodia, Japan and China: each character counts."""
_WORD = re.compile(rf"(?P<alone>[{_ALONE}])|[^\W{_ALONE}]+")


def _counts(word: str) -> bool:
    """Whether that is a word, and not the number or letter of a list."""
    return (len(word) > 1 and not word.isdigit()) or re.fullmatch(f"[{_ALONE}]", word) is not None


class Instructions:
    """An agent's instructions, by the places of each two words that stand together."""

    def __init__(self, text: str) -> None:
        self.words = [word for match in _WORD.finditer(text) if _counts(word := match[0].lower())]
        self.pairs: dict[tuple[str, str], list[int]] = {}
        for at, pair in enumerate(zip(self.words, self.words[1:], strict=False)):
            self.pairs.setdefault(pair, []).append(at + 1)

    @property
    def enough(self) -> bool:
        """Whether there is anything that could leak."""
        return len(self.words) >= SAID


class Leaks:
    """One text, looked at while it grows. `acted`: something was taken out.

    From the eighth word in a row that stands so in the instructions they are held back; with the twentieth they are a leak and are
    left out, until other words come. A word is only known once something else follows it: the last one is held back where those
    before it are a run. Numbers and single letters are no words: lists have them.
    """

    def __init__(self, instructions: Instructions) -> None:
        self.acted = False
        self._known = instructions
        self._held = ""
        self._word = ""
        self._last = ""
        self._since = 0  # characters after the last word
        self._runs: dict[int, int] = {}
        self._longest = 0
        self._leaking = False

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        shown: list[str] = []
        at = 0
        for match in _WORD.finditer(text):
            first, to = match.span()
            if first > at or not self._word or match["alone"]:
                self._gap(text[at:first], shown)
            self._word = (self._word + match[0])[: APART + 1]
            self._add(match[0], shown)
            if match["alone"]:
                self._gap("", shown)
            at = to
        if at < len(text):
            self._gap(text[at:], shown)
        return "".join(shown)

    def end(self) -> str:
        """The rest: the text is whole."""
        shown: list[str] = []
        self._gap("", shown)
        rest, self._held = self._held, ""
        return "".join((*shown, rest))

    def _gap(self, between: str, shown: list[str]) -> None:
        """A word has ended, if there was one; then comes what is no word."""
        if self._word:
            word, self._word = self._word.lower(), ""
            if _counts(word):
                self._ended(word, shown)
        if between:
            self._add(between, shown)

    def _add(self, text: str, shown: list[str]) -> None:
        if self._leaking or self._held or self._longest >= HELD - 1:
            self._held += text
        else:
            shown.append(text)
        self._since += len(text)
        if self._since > APART:
            self._over(shown)
            self._runs = {}
            self._longest = 0
            self._last = ""

    def _ended(self, word: str, shown: list[str]) -> None:
        places = self._known.pairs.get((self._last, word), ())
        self._last = word
        self._since = 0
        before = self._runs
        if not places and not before:
            return
        self._runs = {place: before.get(place - 1, 1) + 1 for place in places}
        longest = self._longest = max(self._runs.values(), default=0)
        if longest >= SAID:
            if not self._leaking:
                self._leaking = self.acted = True
                shown.append(REMOVED)
            self._held = ""
        elif self._leaking or longest < HELD - 1:
            self._over(shown)

    def _over(self, shown: list[str]) -> None:
        if self._held:
            shown.append(self._held)
            self._held = ""
        self._leaking = False
