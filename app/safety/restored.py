"""Real values in the place of their placeholders, in a text that grows; but in no address, which would carry them away.

Whether something is an address is not asked of those who guard addresses: this is the second lock. It looks at what stands before a
placeholder without white space in between, or, after a `<`, in the same line: there an address may have spaces.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from app.safety.links import allowed

LONGEST = 40
"""Characters that a placeholder has at most."""
RUN = 512
"""Characters before a placeholder that are remembered. Of those before them it is only known whether they were an address."""
_KEPT = 16
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]{0,30}_[1-9][0-9]{0,5}>")
_OPEN = re.compile(r"<(?:[A-Z][A-Z_]{0,30}(?:_[0-9]{0,6})?)?\Z")
_ENDS = re.compile(r"[ \t\r\n<>]")
_ADDRESS = re.compile(r"(?i)//|:/|\\|\?|\]\((?!<?(?:mailto|tel):)|www\.|(?:https?|ftp):")
"""What only addresses have. A slash or a `#` is one where a dot is, too."""
_OF_ADDRESSES = "/#&"
"""What makes an address of so long a run that its dots are not known."""
_UNREAD = str.maketrans("", "", "\t\n\r")
"""What browsers leave out of addresses."""
_KNOWN = re.compile(r"(?i)https?://[^/\s\\<>()\[\]\"'@?#:]++(?::[0-9]{1,5})?/[^\s\\<>()\[\]\"']*+")


class Restored:
    """One text. `show`: gives the value of a placeholder, or itself; `hosts`: whose addresses may have values."""

    def __init__(self, show: Callable[[str], str], hosts: Sequence[str]) -> None:
        self._show = show
        self._hosts = hosts
        self._held = ""
        self._run = ""
        self._long = False
        self._carried = False
        self._angle = False

    def push(self, text: str) -> str:
        """What may be shown after that much more. What may be the beginning of a placeholder is held back."""
        text = self._held + text
        begun = _OPEN.search(text, max(0, len(text) - LONGEST))
        to = len(text) if begun is None else begun.start()
        self._held = text[to:]
        parts: list[str] = []
        at = 0
        for match in _PLACEHOLDER.finditer(text, 0, to):
            before = text[at : match.start()]
            self._read(before)
            parts += (before, match[0] if self._in_address() else self._show(match[0]))
            self._grow("_")
            at = match.end()
        self._read(text[at:to])
        parts.append(text[at:to])
        return "".join(parts)

    def end(self) -> str:
        """The rest: the text is whole."""
        rest, self._held = self._held, ""
        return rest

    def _read(self, text: str) -> None:
        at = 0
        if not self._angle:
            first = text.find("<")
            plain = text if first < 0 else text[:first]
            at = 1 + max(plain.rfind(space) for space in " \t\r\n")
            if at:
                self._over()
            if first < 0:
                self._grow(text[at:])
                return
        for match in _ENDS.finditer(text, at):
            mark = match[0]
            if mark in "\r\n" or (mark in " \t" and not self._angle):
                self._over()
                at = match.end()
                self._angle = False
            elif mark in "<>":
                self._angle = mark == "<"
        self._grow(text[at:])

    def _over(self) -> None:
        self._run = ""
        self._long = self._carried = False

    def _grow(self, text: str) -> None:
        self._run += text
        if len(self._run) <= (_KEPT if self._long else RUN):
            return
        self._long = True
        least = len(self._run) - _KEPT
        address = _ADDRESS.search(self._run)
        self._carried |= (address is not None and address.start() < least) or _has(self._run[:least], _OF_ADDRESSES)
        self._run = self._run[least:]

    def _in_address(self) -> bool:
        """Whether what comes now belongs to an address that may not have it, as it stands or with its entities of HTML read."""
        run = self._run
        if self._long:
            return self._carried or _has(run, _OF_ADDRESSES) or _ADDRESS.search(run) is not None
        if self._leads(run):
            return True
        said = html.unescape(run).translate(_UNREAD) if "&" in run else run
        return said != run and self._leads(said)

    def _leads(self, run: str) -> bool:
        if _ADDRESS.search(run) is None and not ("." in run and _has(run, "/#")):
            return False
        known = _KNOWN.search(run)
        if known is None or known.end() < len(run):
            return True
        before = run[: known.start()]
        simply = not before or (before[-1] in "[(<\"'= " and not _has(before, "/\\?:."))
        return not (simply and allowed(known[0], self._hosts))


def _has(text: str, marks: str) -> bool:
    return any(mark in text for mark in marks)
