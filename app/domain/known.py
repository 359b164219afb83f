"""Values that are looked for in texts, by the words of the text: that takes the time of its length, however many values there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

FEW = 8
"""Values that are compared one by one."""
TURN = 512
"""Words, or values, between two moments in which others may go on."""
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|\W")


class _Node:
    """Values that begin alike. `ends`: those that end here, or that go on and are few; `following`: the others, by their next word."""

    __slots__ = ("ends", "following")

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.following: dict[str, _Node] = {}


class Known:
    """A set of values. Only ever grows."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._root: dict[str, _Node] = {}
        self._marks: set[str] = set()
        self._first = _WORD
        for value in values:
            self.add(value)

    def add(self, value: str) -> None:
        """That one is looked for, too."""
        first = _token(value, 0)
        if not _of_word(first[0]) and first not in self._marks:
            self._marks.add(first)
            self._first = re.compile(rf"\w+|[{''.join(map(re.escape, sorted(self._marks)))}]")
        node, at = self._root.setdefault(first, _Node()), len(first)
        while node.following and at < len(value):
            word = _token(value, at)
            at += len(word)
            node = node.following.setdefault(word, _Node())
        if value not in node.ends:
            node.ends.append(value)
        if len(node.ends) > FEW:
            longer = [one for one in node.ends if len(one) > at]
            node.ends = [one for one in node.ends if len(one) == at]
            for one in longer:
                node.following.setdefault(_token(one, at), _Node()).ends.append(one)

    def places(self, text: str) -> Iterator[tuple[int, int] | None]:
        """Where they stand as words of their own, in order, none within another: of those that begin at one place the longest.

        None now and then: others may go on.
        """
        last = 0
        for n, word in enumerate(self._first.finditer(text) if self._root else ()):
            if n % TURN == TURN - 1:
                yield None
            start = word.start()
            node = self._root.get(word[0])
            if node is None or start < last or (start and _of_word(text[start - 1])):
                continue
            end = _longest(node, text, start, word.end())
            if end > start:
                yield start, end
                last = end


def _longest(node: _Node, text: str, start: int, at: int) -> int:
    """Where the longest value from `start` on ends, of those that go on so at `at`; `start` where there is none."""
    found = start
    while True:
        for value in node.ends:
            end = start + len(value)
            if end > found and text.startswith(value, start) and not (end < len(text) and _of_word(text[end])):
                found = end
        following = node.following.get(_token(text, at)) if node.following and at < len(text) else None
        if following is None:
            return found
        node, at = following, at + len(_token(text, at))


def _token(text: str, at: int) -> str:
    matched = _TOKEN.match(text, at)
    assert matched is not None
    return matched[0]


def _of_word(character: str) -> bool:
    return character.isalnum() or character == "_"
