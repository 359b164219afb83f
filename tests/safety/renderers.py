"""What a reader's screen would do with an answer: by a renderer of markdown that lets HTML through, and by one of HTML alone.

`EVIL` stands in every address of another site that tests write, so that nothing need be known of how an address is read.
"""

from __future__ import annotations

import re
from html import unescape

from markdown_it import MarkdownIt

EVIL = "evil"
ALLOWED = "https://good.org/"
"""A site that may be fetched from."""
_STILL = frozenset(
    ["class", "id", "alt", "title", "name", "role", "type", "rel", "target", "lang", "dir", "placeholder", "key", "for"]
)


_TAG = re.compile(r"<([A-Za-z][^ \t\n\f\r/>]*)")
_ATTRIBUTE = re.compile(
    r"[ \t\n\f\r/]*(?P<name>[^ \t\n\f\r/>][^ \t\n\f\r/>=]*)"
    r"(?:[ \t\n\f\r]*=[ \t\n\f\r]*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^ \t\n\f\r>\"'][^ \t\n\f\r>]*)))?"
)
_UNSEEN = re.compile(r"[\x00-\x20]")
_FOREIGN = re.compile(rf"(?:\A|[\s,;(\"'=])[\x00-\x20`]*(?:[a-z][a-z0-9+.-]*:|[/\\]{{2}}|\\)\S*{EVIL}")
_END = re.compile(r"[ \t\n\f\r/]*>")


def fetched(html: str) -> list[str]:
    """What that HTML fetches from elsewhere, or runs, as a browser reads tags; wherever one stands, also where a browser sees none."""
    found: list[str] = []
    for tag in _TAG.finditer(html):
        name, at, within = tag[1].lower(), tag.end(), []
        while (attribute := _ATTRIBUTE.match(html, at)) is not None:
            value = attribute["double"] or attribute["single"] or attribute["bare"] or ""
            within.append((attribute["name"].lower(), unescape(unescape(value)).lower()))
            at = attribute.end()
        if _END.match(html, at) is None:
            continue  # it does not end
        if name in ("script", "style"):
            found.append(tag[0])
        found += [
            f"{tag[0]} {attribute}={value}"
            for attribute, value in within
            if attribute.startswith("on")
            or (
                not value.startswith(ALLOWED)
                and (_FOREIGN.search(value) or _FOREIGN.search(_UNSEEN.sub("", value)))
                and not (attribute in _STILL or (name == "a" and attribute == "href") or attribute.startswith("xmlns"))
            )
        ]
    return found


def rendered(text: str) -> str:
    """That markdown as HTML, with addresses as they are."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    markdown.validateLink = lambda _: True  # type: ignore[method-assign, assignment]
    return str(markdown.render(text))


def fetches(text: str) -> list[str]:
    """What an answer fetches, as markdown and as HTML."""
    return [*fetched(rendered(text)), *fetched(text)]


def runs(text: str) -> list[str]:
    """Links of a rendered answer that run a program."""
    return re.findall(r'(?i)href="\s*(?:javascript|vbscript|data):[^"]*', rendered(text))
