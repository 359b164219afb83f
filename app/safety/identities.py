"""Numbers that stand for people and accounts, each by its own form and check digits.

The countries are those in `FORMS` and `NUMBERS`, no others: each rule costs false alarms. A number of bare digits with a weak
check counts only where a word near it says what it is (`says`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
from stdnum import iban, luhn
from stdnum.be import nn as be
from stdnum.br import cpf as br
from stdnum.ch import ssn as ch
from stdnum.cn import ric as cn
from stdnum.de import idnr as de
from stdnum.dk import cpr as dk
from stdnum.es import dni, nie
from stdnum.eu import vat
from stdnum.fi import hetu as fi
from stdnum.fr import nir as fr
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale as it
from stdnum.mx import curp as mx
from stdnum.nl import bsn as nl
from stdnum.no import fodselsnummer as no
from stdnum.pl import pesel as pl
from stdnum.se import personnummer as se
from stdnum.us import ssn as us

from app.domain.screening import EntityKind

Valid = Callable[[str], bool]


class Form(msgspec.Struct, frozen=True):
    """How one country writes one kind of number. `says`: what must stand near it, where the form and its check say too little."""

    kind: EntityKind
    form: re.Pattern[str]
    valid: Valid
    says: re.Pattern[str] | None = None


def _says(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?:{words})")


_PERSON = r"national id|identity|id[- ]?(?:no|number|card)|tax|social|insurance|passport|\bid\b"
NUMBERS: tuple[Form, ...] = (
    Form("NATIONAL_ID", re.compile(r"\d{3}-\d{2}-\d{4}"), us.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{9}"), us.is_valid, _says(r"\bssn\b|social security")),
    Form("NATIONAL_ID", re.compile(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), br.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{11}"), br.is_valid, _says(r"\bcpf\b")),
    Form("NATIONAL_ID", re.compile(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"), be.is_valid),
    Form("NATIONAL_ID", re.compile(r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}"), ch.is_valid),
    Form("NATIONAL_ID", re.compile(r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d{2} ?\d{3} ?\d{3} ?\d{2}"), fr.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{11}"), pl.is_valid, _says(rf"pesel|{_PERSON}")),
    Form("NATIONAL_ID", re.compile(r"\d{6}[ -]?\d{5}"), no.is_valid, _says(r"f[øo]dselsnummer|personnummer|personal")),
    Form("NATIONAL_ID", re.compile(r"\d{6}-\d{4}"), dk.is_valid, _says(r"\bcpr\b")),
    Form("NATIONAL_ID", re.compile(r"(?:\d{2})?\d{6}[-+]\d{4}"), se.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{8,9}"), nl.is_valid, _says(r"\bbsn\b|burgerservice|sofi")),
    Form("NATIONAL_ID", re.compile(r"\d{4} ?\d{4} ?\d{4}"), aadhaar.is_valid, _says(r"aadhaar|uidai")),
    Form("NATIONAL_ID", re.compile(r"\d{3} ?\d{3} ?\d{4}"), nhs.is_valid, _says(r"\bnhs\b")),
    Form("NATIONAL_ID", re.compile(r"\d{6}-\d{4}"), fi.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{18}"), cn.is_valid),
    Form("TAX_ID", re.compile(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"), de.is_valid, _says(r"steuer|\bidnr\b|tax")),
)
"""Of digits and separators alone."""

_VAT = re.compile(r"[A-Z]{2}[0-9A-Z]{8,12}")
LETTERED: tuple[Form, ...] = (
    Form("IBAN", re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}"), iban.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{8}[ -]?[A-Z]"), dni.is_valid),
    Form("NATIONAL_ID", re.compile(r"[XYZ][ -]?\d{7}[ -]?[A-Z]"), nie.is_valid),
    Form("NATIONAL_ID", re.compile(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"), it.is_valid),
    Form(
        "NATIONAL_ID",
        re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
        lambda number: number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"),
    ),
    Form("NATIONAL_ID", re.compile(r"\d{6}[-+A]\d{3}[0-9A-Y]"), fi.is_valid),
    Form("NATIONAL_ID", re.compile(r"\d{17}[\dX]"), cn.is_valid),
    Form("NATIONAL_ID", re.compile(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d"), mx.is_valid),
    Form("TAX_ID", re.compile(r"[A-Z]{5}\d{4}[A-Z]"), pan.is_valid, _says(r"\bpan\b|tax|income")),
    Form("TAX_ID", _VAT, vat.is_valid),
)
"""With letters among the digits. An IBAN (ISO 13616) may be followed by capitals that are no part of it: it is tried shorter."""

_ACCOUNT = re.compile(r"\d{2}[ -]?[A-Za-z0-9]{4}(?:[ -]?[A-Za-z0-9]){7,26}+")
_SEPARATOR = re.compile(r"[ -]")
COUNTRIES = frozenset([
    "AD", "AE", "AL", "AT", "AZ", "BA", "BE", "BG", "BH", "BI", "BR", "BY", "CH", "CR", "CY", "CZ", "DE", "DJ", "DK", "DO", "EE", "EG",
    "ES", "FI", "FK", "FO", "FR", "GB", "GE", "GI", "GL", "GR", "GT", "HR", "HU", "IE", "IL", "IQ", "IS", "IT", "JO", "KW", "KZ", "LB",
    "LC", "LI", "LT", "LU", "LV", "LY", "MC", "MD", "ME", "MK", "MN", "MR", "MT", "MU", "NI", "NL", "NO", "OM", "PK", "PL", "PS", "PT",
    "QA", "RO", "RS", "RU", "SA", "SC", "SD", "SE", "SI", "SK", "SM", "SO", "ST", "SV", "TL", "TN", "TR", "UA", "VA", "VG", "XK",
])  # fmt: skip
"""Whose banks have IBANs (the registry of ISO 13616)."""
_TOKEN = re.compile(r"[A-Z0-9](?:[ +-]?[A-Z0-9]){8,44}+")
_JOINT = re.compile(r"[ ]")
MOST_WORDS = 4
"""Words before a number that are looked past."""
_DIGITS = re.compile(r"\d+")
NEAR = 48
"""Characters before a number in which a word says what it is."""


def cards(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Payment cards: groups of digits with a range of issuers and the check digit of ISO/IEC 7812."""
    groups = [match.span() for match in _DIGITS.finditer(text, start, end)]
    first = 0
    while first < len(groups):
        for last in range(first, min(first + 6, len(groups))):
            if last > first and text[groups[last - 1][1] : groups[last][0]] not in (" ", "  ", "-", "."):
                break
            digits = "".join(text[a:b] for a, b in groups[first : last + 1])
            if len(digits) > 19:
                break
            if len(digits) >= 13 and _grouped(groups[first : last + 1]) and issued(digits) and luhn.is_valid(digits):
                yield groups[first][0], groups[last][1]
                first = last
                break
        first += 1


def _grouped(groups: list[tuple[int, int]]) -> bool:
    sizes = [b - a for a, b in groups]
    return len(sizes) == 1 or (sizes[0] == 4 and all(3 <= size <= 6 for size in sizes[1:]))


def issued(digits: str) -> bool:
    """Whether an issuer of payment cards has numbers of that length that begin like this."""
    if len(set(digits)) < 2:
        return False
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return size in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return size == 16
    if two in (34, 37):
        return size == 15
    if two in (36, 38, 39) or 3000 <= four <= 3059:
        return size == 14
    if four == 6011 or two in (62, 65) or 6440 <= four <= 6499 or 3528 <= four <= 3589:
        return 16 <= size <= 19
    return four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763) and 13 <= size <= 19


def number(text: str, start: int, end: int) -> EntityKind | None:
    """What the digits there are, as a whole."""
    written = text[start:end]
    for form in NUMBERS:
        if form.form.fullmatch(written) and _near(text, start, form) and form.valid(written):
            return form.kind
    return None


def accounts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """IBANs that begin within text[start:end], in letters of any case, with spaces or hyphens: small letters within it only without spaces."""
    reach = min(len(text), end + NEAR)
    matched = _ACCOUNT.search(text, start, reach)
    while matched is not None and matched.start() - 2 < end:
        at, to = matched.start() - 2, matched.end()
        known = at >= start and text[at : at + 2].upper() in COUNTRIES
        last = _account(text, at, to) if known and _begins(text, at) else None
        if last is not None:
            yield at, last
        matched = _ACCOUNT.search(text, matched.start() + 2 if last is None else last, reach)


def _begins(text: str, at: int) -> bool:
    return not (at and (text[at - 1].isalnum() or text[at - 1] == "_"))


def _account(text: str, at: int, to: int) -> int | None:
    """Where the longest IBAN there ends."""
    for last in (to, *(joint.start() for joint in reversed(list(_SEPARATOR.finditer(text, at, to))))):
        if " " in text[at:last] and any(map(str.islower, text[at + 2 : last])):
            continue  # words: where one ends could not be told while a text grows
        if last - at >= 15 and not text[last : last + 1].isalnum() and iban.is_valid(text[at:last].upper()):
            return last
    return None


def lettered(text: str, start: int, end: int) -> Iterator[tuple[EntityKind, int, int]]:
    """Numbers with letters that begin within text[start:end]."""
    reach = min(len(text), end + NEAR)
    token = _TOKEN.search(text, start, reach)
    while token is not None and token.start() < end:
        at, to = token.span()
        found = _lettered(text, at, to) if _mixed(token[0]) and _alone(text, at, to) else None
        if found is not None:
            yield found
        token = _TOKEN.search(text, to if found is None else found[2], reach)


def _mixed(token: str) -> bool:
    return not token.isalpha() and not token.replace(" ", "").replace("-", "").isdigit()


def _lettered(text: str, at: int, to: int) -> tuple[EntityKind, int, int] | None:
    """The first number among the words there. It may begin and end with any of them."""
    joints = [match.start() for match in _JOINT.finditer(text, at, to)]
    starts = [at, *(joint + 1 for joint in joints)]
    for first in starts[:MOST_WORDS]:
        for last in (to, *reversed(joints)):
            if last <= first:
                break
            one = text[first:last]
            for form in LETTERED if len(one) >= 9 else ():
                if form.form.fullmatch(one) and _near(text, first, form) and form.valid(one):
                    return form.kind, first, last
    return None


def _near(text: str, start: int, form: Form) -> bool:
    return form.says is None or form.says.search(text, max(0, start - NEAR), start) is not None


def _alone(text: str, start: int, end: int) -> bool:
    return not (start and (text[start - 1].isalnum() or text[start - 1] in "_")) and not text[end : end + 1].isalnum()
