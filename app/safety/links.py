"""Links that would carry something away, and addresses of other sites: what a model was made to write is not what its reader's screen
may send.

An image is fetched as soon as it is shown: only hosts of the policy may give one. A link needs a click: one is taken away where it
carries more than an address does.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from app.safety.credentials import entropy
from app.safety.entities import find_now

LONGEST_QUERY = 200
"""Characters of query and fragment that are no data yet: a search has some."""
LONGEST_WORD = 64
"""Characters of a drawn-looking piece of a path or host that are no data yet: an image's digest is as long, a document's id shorter."""
_RELATIVE = re.compile(r"(?!//)[A-Za-z0-9_./#?=&%~,+-]*")
_PIECE = re.compile(rf"[A-Za-z0-9+=%]{{{LONGEST_WORD + 1},}}+")
_LABEL = 30
"""Characters of one label of a host's name that are no data yet."""
_PLACEHOLDER = re.compile(r"(?:<|%3[cC])[A-Z][A-Z_]{0,30}_[0-9]{1,6}(?:>|%3[eE])")

_LEADS = re.compile(r"(?i)(?!mailto:|tel:)(?:[a-z][a-z0-9+.-]{1,30}+:.|//)")
"""Not on this site: with a scheme (two letters or more, and something after it: `C:` is a disk, `x:` has a type), or with a host and the page's own scheme."""
_RUNS = re.compile(r"(?i)(?<!/)/*+(?:javascript|vbscript|data):")
_ENTRIES = re.compile(r"[\s,;=(\"']+")
_STRIPPED = str.maketrans({"\t": None, "\n": None, "\r": None, "\0": None, "\\": "/"})
"""What browsers leave out of addresses, and what they take for a slash (URL Standard, basic parser)."""
_ESCAPED = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
"""What markdown leaves out: before punctuation of ASCII."""
_AROUND = "".join(map(chr, range(0x21))) + "`"
"""What browsers, some of them old, leave out around an address: controls and spaces."""
_UNNAMED = frozenset("@%&")
"""What no host's name has: it may become the end of one."""


def allowed(url: str, hosts: Sequence[str]) -> bool:
    """Whether that leads to one of the hosts, or to a name below one."""
    host = _host(url)
    return host is not None and any(host == known or host.endswith("." + known) for known in hosts)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url if "//" in url[:9] else f"//{url}")
        host = parts.hostname
    except ValueError:
        return None
    # browsers and this parser read such a one differently
    if host is None or "\\" in url or not _UNNAMED.isdisjoint(parts.netloc):
        return None
    return host.rstrip(".").lower()


def fetches(url: str, hosts: Sequence[str]) -> bool:
    """Whether an image of that address must not be shown: it is not of this site, nor of a host of the policy."""
    return _RELATIVE.fullmatch(url) is None and not (_LEADS.match(url) is not None and allowed(url, hosts))


def foreign(value: str, hosts: Sequence[str]) -> bool:
    """Whether an attribute's value, or anything in it, may lead to where no host of the policy is, as browsers read it."""
    value = html.unescape(value)
    if "\\" in value:  # a style sheet may write any character so
        return True
    apart, joined = _ENTRIES.split(value), _ENTRIES.split(value.translate(_STRIPPED))
    return any(
        _LEADS.match(address) is not None and not allowed(address, hosts)
        for address in (one.translate(_STRIPPED).strip(_AROUND) for one in (*apart, *joined))
    )


def leads_out(url: str, hosts: Sequence[str]) -> bool:
    """Whether a link that needs a click runs a program, or carries more than an address; as markdown or as a browser reads it."""
    said = html.unescape(url)
    for one in {url, said, _ESCAPED.sub("", said)}:
        plain = one.translate(_STRIPPED).strip(_AROUND)
        if _RUNS.match(plain) or ((_LEADS.match(plain) is not None or "//" in plain[:9]) and carries(plain, hosts)):
            return True
    return False


def carries(url: str, hosts: Sequence[str]) -> bool:
    """Whether a link carries more than an address: a long query, a drawn-looking piece, personal data or a secret.

    An e-mail address of the host itself is where people write to it.
    """
    if allowed(url, hosts):
        return False
    host, _, rest = url.partition("://")[2].partition("/") if "://" in url else ("", "", url)
    query = re.split(r"[?#]", url, maxsplit=1)[1:]
    if query and len(query[0]) > LONGEST_QUERY:
        return True
    if any(len(label) > _LABEL for label in host.partition("?")[0].split(".")):
        return True
    if any(entropy(piece) > 3.0 for piece in _PIECE.findall(url)):
        return True
    said = unquote(rest if not query else f"{rest} {query[0]}")[:2_000]
    own = _host(url)
    return _PLACEHOLDER.search(url) is not None or any(
        one.kind != "IP" and not (one.kind == "EMAIL" and said[one.start : one.end].lower().endswith(f"@{own}"))
        for one in find_now(said)
    )
