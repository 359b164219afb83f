"""Addresses of people and machines: e-mail, telephone, IP and MAC."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import phonenumbers

from app.domain.screening import EntityKind

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-'"
_WIDE_LOCAL = _LOCAL + "".join(filter(str.isalpha, map(chr, range(0xC0, 0x530))))
"""With letters of Latin, Greek and Cyrillic (RFC 6531); other scripts are written up to an address without a space."""
_DOMAIN = re.compile(r"[A-Za-z0-9-]{1,63}+(?:\.[A-Za-z0-9-]{1,63}+){1,8}+")
_WIDE = re.compile(r"(?:[^\W_]|-){1,63}+(?:\.(?:[^\W_]|-){1,63}+){1,8}+")
NOT_DOMAINS = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "py",
        "js",
        "ts",
        "tsx",
        "css",
        "html",
        "md",
        "json",
        "yaml",
        "yml",
        "toml",
        "txt",
        "sh",
        "go",
        "rs",
        "java",
        "c",
        "h",
    ]
)
"""Last labels that are endings of files (`icon@2x.png`)."""
PHONE_WORDS = re.compile(
    r"(?i)(?:\btel\b|phone|mobile|\bcell\b|\bfax\b|telefon|handy|whatsapp|\btél|tel[ée]fono|portable|móvil|電話|电话|тел)"
)
_AFTER_DIGITS = re.compile(r"[\d\n]")
_DATE = re.compile(r"(?:19|20)\d\d[-/.](?:0[1-9]|1[0-2])[-/.]\d\d")
_NANP = re.compile(r"\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[.-]\d{4}")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d|/\d)")
_DOTTED = re.compile(r"\.\d{1,3}\.\d{1,3}\.")
_COLONS = re.compile(r"[:-][0-9A-Fa-f]{0,4}[:-]")
_HEX = re.compile(r"[0-9A-Fa-f:-]{0,40}+")
_HEXADECIMAL = "0123456789abcdefABCDEF"
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")


def emails(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """E-mail addresses whose `@` is within text[start:end], also as a URL writes it: the dot-atoms of RFC 5322, domains of any letters."""
    for mark in ("@", "%40"):
        at = text.find(mark, start, end)
        while at >= 0:
            yield from _email(text, at, at + len(mark))
            at = text.find(mark, at + 1, end)


def _email(text: str, at: int, after: int) -> Iterator[tuple[int, int]]:
    before = text[max(0, at - 64) : at]
    local = before[len(before.rstrip(_LOCAL if before.isascii() else _WIDE_LOCAL)) :].lstrip(".%+-'")
    domain = _domain(text, after) if local and local[-1] != "." else None
    if domain is not None and _mailbox(local, domain[0], text[domain.end() : domain.end() + 1]):
        yield at - len(local), domain.end() - (len(domain[0]) - len(domain[0].rstrip("-")))


def _domain(text: str, at: int) -> re.Match[str] | None:
    """The domain there. Letters beyond ASCII (RFC 5890) are of it where a dot follows: else a word of another script does."""
    plain = _DOMAIN.match(text, at)
    end = at if plain is None else plain.end()
    if text[end : end + (1 if plain else 64)].isascii():
        return plain
    wide = _WIDE.match(text, at)
    return plain if wide is None or "." not in text[end : wide.end()] else wide


def _mailbox(local: str, domain: str, following: str) -> bool:
    last = domain.rstrip("-").rpartition(".")[2]
    if len(last) < 2 or not last.isalpha() or last.lower() in NOT_DOMAINS:
        return False
    return not (local == "git" and following in (":", "/"))  # where a repository is


def phone(text: str, start: int, end: int, *, told: bool) -> bool:
    """Whether the digits there are a telephone number that can be dialled (libphonenumber). `told`: a word before them says that they are,
    in whatever way their country writes them."""
    number = text[start:end]
    if number.startswith("+"):
        return _valid(number, None)
    if number.startswith("00") and _valid("+" + number[2:], None):
        return True
    if told and not _DATE.match(number):
        return 8 <= sum(map(str.isdigit, number)) <= 15
    return _NANP.fullmatch(number) is not None and _valid(number, "US")


def said(text: str, at: int) -> bool:
    """Whether a word shortly before that place, with no other number in between, says that a telephone number follows."""
    before = text[max(0, at - 24) : at].rstrip("(+")
    return PHONE_WORDS.search(_AFTER_DIGITS.split(before)[-1]) is not None


def _valid(number: str, region: str | None) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False


def machines(text: str, start: int, end: int) -> Iterator[tuple[EntityKind, int, int]]:
    """Addresses that begin within text[start:end], or a few characters before: MAC, and IP of the public internet."""
    matched = _COLONS.search(text, start, end)
    while matched is not None:
        before = text[max(0, matched.start() - 5) : matched.start()]
        at = matched.start() - (len(before) - len(before.rstrip(_HEXADECIMAL)))
        written = _HEX.match(text, at)
        assert written is not None
        yield from _hexadecimal(text, at, written[0].rstrip(":-"))
        matched = _COLONS.search(text, max(matched.end(), written.end()), end)
    dotted = _DOTTED.search(text, start, end)
    while dotted is not None:
        before = text[max(0, dotted.start() - 4) : dotted.start()]
        at = dotted.start() - (len(before) - len(before.rstrip("0123456789")))
        four = _IPV4.match(text, at)
        if four is not None and not before[:-4].isalnum() and _address(text, at, four.end()):
            yield "IP", at, four.end()
        dotted = _DOTTED.search(text, dotted.end(), end)


def _hexadecimal(text: str, at: int, written: str) -> Iterator[tuple[EntityKind, int, int]]:
    if (at and text[at - 1].isalnum()) or text[at + len(written) : at + len(written) + 1].isalnum():
        return
    if _MAC.fullmatch(written):
        yield "MAC", at, at + len(written)
    elif written.count(":") >= 2 and "-" not in written and _public(written):
        yield "IP", at, at + len(written)


def _address(text: str, start: int, end: int) -> bool:
    """Whether that is the address of a machine of the public internet, and no version number."""
    before = text[max(0, start - 9) : start].lower()
    return not before.endswith(("v", "version ", "==", ">=", "~=", "/v")) and _public(text[start:end])


def _public(written: str) -> bool:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
