"""What a reader's screen would fetch by itself, taken apart in a text that grows: images, and tags of HTML.

A renderer knows an image by `![` and a tag by `<` with a letter after it: nothing may stand between. So a space is put there wherever
the rest is not simply and completely known to be harmless: it is shown then, and does nothing. What the rest means to which renderer
need not be known, since nothing that is not simple keeps its power. Most programs stay the programs that they were (`a< b`, `vec! [1]`).

An image by reference has no address, and its definition (`]:`) may come before or after it. Of the two the one that comes second
is taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.safety.links import fetches, foreign, leads_out

ALT = 512
"""Characters of an image's description, at most."""
ADDRESS = 2_048
"""Characters of its address, at most."""
TAG = 2_048
"""Characters of a tag, at most."""
BOUND = ALT + ADDRESS + 256
"""Characters that are held back at most."""
_SIGN = re.compile(r"(?<=!)\[|(?<=<)[A-Za-z]|(?<=\]):|(?<=removed\])\(")
"""Also after what we have put in the place of something: that is no text of a link."""
_BEFORE = len("removed]")
_ALT = rf"\[[^\[\]`<\\\x00-\x1f]{{0,{ALT}}}+"
_TO = rf"\([A-Za-z0-9_./#?=%~,:+@&;-]{{0,{ADDRESS}}}+"
_TITLE = r'"[^"\\\n<>&!\[\]]{0,200}+'
_IMAGE = re.compile(rf'{_ALT}\](?P<to>{_TO})(?: {_TITLE}")?\)')
_IMAGE_OPEN = re.compile(rf'{_ALT}(?:\](?:{_TO}(?: (?:{_TITLE}"?)?)?)?)?\Z')
_BARE = re.compile(rf"{_ALT}\](?![(\[:])")
"""An image by reference, if its label is defined."""
_WITHIN = re.compile(rf"[^<>\n]{{0,{TAG}}}+")
_NAME = r"[^\s<>\"'`=/\\\x00-\x20]"
_VALUE = r"\"[^\"<>\\\x00-\x1f]*+\"|'[^'<>\\\x00-\x1f]*+'|[^\s\"'=<>`\\\x00-\x20]++"
_WORD = re.compile(rf"{_NAME}*+")
_TAG = re.compile(rf"(?P<name>{_NAME}++)(?P<rest>(?: ++{_NAME}++(?:=(?:{_VALUE}))?)*+) *+/?")
_ATTRIBUTE = re.compile(rf"({_NAME}++)(?:=({_VALUE}))?")
_PATH = re.compile(r"(?<![\w.+-])(?P<name>[A-Za-z][\w.+-]*+)(?:/[\w.+-]++)++")
"""`#include <sys/socket.h>`. To who reads it as a tag it has attributes, and none of them a value."""
_AUTOLINK = re.compile(r"(?i)(?:https?|mailto|tel):[^\s<>\"'`\\]*+")
_AS_TAG = re.compile(r"(?i)/(?:style|on[a-z]+)=")
"""What an address would be to who reads it as a tag."""
_RUNS = frozenset(["style", "script"])
"""Tags whose text is no text. They may have a prefix."""
_DOCUMENTS = ("srcdoc", "style")
_WORDS = frozenset(
    [
        "class", "id", "alt", "title", "name", "role", "type", "rel", "target", "lang", "dir", "width", "height", "colspan", "rowspan", "align",
        "placeholder", "for", "key",
    ]
)  # fmt: skip
"""Attributes that no browser takes for an address."""
_PLAIN_STYLE = re.compile(r"[A-Za-z0-9 ;,.%#!:-]*")


class Rendering:
    """One text, looked at while it grows. `hosts`: where images may come from. `acted`: something was taken apart."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.acted = False
        self._hosts = hosts
        self._last = ""
        self._held = ""
        self._bare = False  # an image by reference was shown
        self._defined = False  # a definition may have been

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        return self._look(text, final=False)

    def end(self) -> str:
        """The rest: the text is whole."""
        return self._look("", final=True)

    def _look(self, text: str, *, final: bool) -> str:
        window = f"{self._last}{self._held}{text}"
        at = last = len(self._last)
        hold = len(window)
        shown: list[str] = []
        sign = _SIGN.search(window, at)
        while sign is not None:
            at = sign.start()
            apart = self._apart(window, at, final=final)
            if apart is None:
                hold = at
                break
            if apart:
                shown += (window[last:at], " ")
                last = at
                self.acted = True
            sign = _SIGN.search(window, at + 1)
        shown.append(window[last:hold])
        self._held = window[hold:]
        self._last = window[max(0, hold - _BEFORE) : hold]
        return "".join(shown)

    def _apart(self, window: str, at: int, *, final: bool) -> bool | None:
        """Whether what begins there is taken apart. None: it is not whole."""
        if window[at] == ":":
            self._defined = True
            return self._bare
        if window[at] == "(":
            return True
        return self._image(window, at, final=final) if window[at] == "[" else self._tag(window, at, final=final)

    def _image(self, window: str, at: int, *, final: bool) -> bool | None:
        if not final and _IMAGE_OPEN.match(window, at) is not None:
            return None
        image = _IMAGE.match(window, at)
        if image is not None:
            return ("&" in image["to"] and ";" in image["to"]) or fetches(image["to"][1:], self._hosts)
        if self._defined or _BARE.match(window, at) is None:
            return True
        self._bare = True
        return False

    def _tag(self, window: str, at: int, *, final: bool) -> bool | None:
        within = _WITHIN.match(window, at)
        assert within is not None
        end = within.end()
        if end == len(window) and end - at < TAG and not final:
            return None
        if window[end : end + 1] != ">":
            return end < len(window) or _WORD.fullmatch(within[0]) is None
        if _AUTOLINK.fullmatch(within[0]) is not None:
            return _AS_TAG.search(within[0]) is not None
        path = _PATH.fullmatch(within[0])
        if path is not None:
            return path["name"].lower() in _RUNS
        tag = _TAG.fullmatch(within[0])
        return tag is None or leads_out(tag["name"], self._hosts) or self._fetches(tag["name"].lower(), tag["rest"])

    def _fetches(self, name: str, rest: str) -> bool:
        if name.rpartition(":")[2] in _RUNS:
            return True
        for attribute, value in _ATTRIBUTE.findall(rest):
            if value and self._leads(name, attribute.lower(), value.strip("\"'")):
                return True
        return False

    def _leads(self, tag: str, attribute: str, value: str) -> bool:
        """Whether that attribute may fetch something, or run."""
        plain = attribute.rpartition(":")[2]
        if plain == "style":
            return _PLAIN_STYLE.fullmatch(value) is None
        if plain in _DOCUMENTS or plain.startswith("on"):
            return True
        if attribute in _WORDS or attribute.partition(":")[0] == "xmlns" or attribute.startswith("aria-"):
            return False
        if tag == "a" and attribute == "href":
            return leads_out(value, self._hosts)
        return foreign(value, self._hosts)
