"""Labelled sentences, made from a seed: values with right check digits in four languages, and what only looks like them.

The check digits are computed here, from the published rules, and not by what is measured.
"""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable, Iterator

import msgspec

SEED = 20261122
EACH = 60
"""Sentences of every kind."""
Draw = Callable[[random.Random], str]


class Labelled(msgspec.Struct, frozen=True):
    """A sentence. `value` is what is to be found in it, of that `kind`; None: nothing is. `what` it is, for the report."""

    text: str
    kind: str | None
    value: str | None
    what: str


def digits(rng: random.Random, n: int) -> str:
    """So many of them."""
    return "".join(rng.choices(string.digits, k=n))


def drawn(rng: random.Random, n: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A key of that length, with letters of both cases and digits where the alphabet has them."""
    while True:
        text = "".join(rng.choices(alphabet, k=n))
        wanted = [
            kind
            for kind in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
            if set(kind) & set(alphabet)
        ]
        if all(set(kind) & set(text) for kind in wanted):
            return text


def luhn(body: str) -> str:
    """The body with its check digit (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


def card(rng: random.Random) -> str:
    """A payment card of a large issuer, written in one of the usual ways."""
    prefix, size = rng.choice(
        [
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("2720", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("36", 14),
            ("3528", 16),
        ]
    )
    number = luhn(prefix + digits(rng, size - 1 - len(prefix)))
    if size == 15 or size == 14:
        parts: tuple[str, ...] = (number[:4], number[4:10], number[10:])
    else:
        parts = tuple(number[at : at + 4] for at in range(0, 16, 4))
    return rng.choice(["", " ", "-"]).join(parts)


def iban(rng: random.Random) -> str:
    """An account of a country whose numbers have no check of their own (ISO 13616)."""
    country, body = rng.choice([
        ("DE", digits(rng, 18)), ("GB", "NWBK" + digits(rng, 14)), ("AT", digits(rng, 16)), ("CH", digits(rng, 17)),
        ("IE", "AIBK" + digits(rng, 14)), ("SE", digits(rng, 20)), ("DK", digits(rng, 14)),
    ])  # fmt: skip
    number = "".join(str(int(c, 36)) for c in f"{body}{country}00")
    whole = f"{country}{98 - int(number) % 97:02d}{body}"
    return whole if rng.random() < 0.5 else " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def email(rng: random.Random) -> str:
    """A mailbox."""
    names = ["ann", "bob.smith", "j_doe", "maria+news", "o'neil", "x.y-z", "dr.müller".replace("ü", "ue"), "li"]
    hosts = ["example.org", "mail.example.co.uk", "firma-beispiel.de", "uni.edu", "a-b.io", "example.museum"]
    return f"{rng.choice(names)}{digits(rng, rng.randint(0, 3))}@{rng.choice(hosts)}"


def phone(rng: random.Random) -> str:
    """A number that can be dialled from anywhere, or one of North America in its own way."""
    return rng.choice([
        f"+49 30 {digits(rng, 1).replace('0', '5').replace('1', '5')}{digits(rng, 7)}", f"+44 20 7946 0{digits(rng, 3)}", f"+33 6 {rng.randint(10, 69)} {digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)}",
        f"+1 (212) 736-{digits(rng, 4)}", f"(415) 986-{digits(rng, 4)}", f"202-456-{digits(rng, 4)}", f"+34 612 {digits(rng, 3)} {digits(rng, 3)}",
        f"+91 98765 {digits(rng, 5)}",
    ])  # fmt: skip


def weighted(body: str, weights: list[int]) -> int:
    """The sum of its digits, each times its weight."""
    return sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))


def national_id(rng: random.Random) -> str:
    """A number of a person: of the United States, Spain, Brazil, France, China, Sweden or Finland."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(50, 99)
    which = rng.randrange(7)
    if which == 0:
        return f"{rng.randint(100, 665):03d}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"
    if which == 1:
        number = rng.randint(10_000_000, 99_999_999)
        return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"
    if which == 2:
        body = digits(rng, 8) + "1"
        for size in (9, 10):
            rest = weighted(body, list(range(size + 1, 1, -1))) % 11
            body += "0" if rest < 2 else str(11 - rest)
        return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"
    if which == 3:
        body = f"{rng.choice('12')}{year}{month:02d}{rng.randint(1, 19):02d}{rng.randint(1, 300):03d}{rng.randint(1, 999):03d}"
        return f"{body}{97 - int(body) % 97:02d}"
    if which == 4:
        body = f"11010119{year}{month:02d}{day:02d}{digits(rng, 3)}"
        return body + "10X98765432"[weighted(body, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11]
    if which == 5:
        body = luhn(f"{year}{month:02d}{day:02d}{digits(rng, 3)}")
        return f"{body[:6]}-{body[6:]}"
    body = f"{day:02d}{month:02d}{year}"
    serial = f"{rng.randint(2, 899):03d}"
    return f"{body}-{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(body + serial) % 31]}"


def tax_id(rng: random.Random) -> str:
    """A German number for value added tax (ISO 7064, mod 11, 10)."""
    body = str(rng.randint(1, 9)) + digits(rng, 7)
    check = 10
    for digit in body:
        check = ((check + int(digit)) % 10 or 10) * 2 % 11
    return f"DE{body}{(11 - check) % 10}"


def ip(rng: random.Random) -> str:
    """An address of the public internet."""
    if rng.random() < 0.3:
        return f"2a00:1450:{rng.randint(1, 65535):x}:{rng.randint(1, 65535):x}::{rng.randint(1, 65535):x}"
    return f"{rng.choice([8, 31, 52, 81, 93, 185])}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"


def mac(rng: random.Random) -> str:
    """An address of a network card."""
    return rng.choice(":-").join(f"{rng.randrange(256):02x}" for _ in range(6))


def jwt(rng: random.Random) -> str:
    """A signed token (RFC 7519)."""
    head, body = (
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"%s"}' % digits(rng, 10).encode())
    )
    return f"{head}.{body}.{drawn(rng, 43)}"


def pem(rng: random.Random) -> str:
    """A private key (RFC 7468)."""
    lines = "\n".join(drawn(rng, 64) for _ in range(rng.randint(2, 6)))
    label = rng.choice(["", "RSA ", "EC ", "OPENSSH "])
    return f"-----BEGIN {label}PRIVATE KEY-----\n{lines}\n-----END {label}PRIVATE KEY-----"


SECRETS: dict[str, Draw] = {
    "OpenAI": lambda r: f"sk-proj-{drawn(r, 48)}",
    "Anthropic": lambda r: f"sk-ant-api03-{drawn(r, 60)}",
    "AWS": lambda r: f"AKIA{drawn(r, 16, string.ascii_uppercase + '234567')}",
    "GitHub": lambda r: r.choice([f"ghp_{drawn(r, 36)}", f"github_pat_{drawn(r, 22)}_{drawn(r, 59)}"]),
    "Slack": lambda r: f"xoxb-{digits(r, 12)}-{digits(r, 12)}-{drawn(r, 24)}",
    "Stripe": lambda r: f"sk_live_{drawn(r, 24)}",
    "Google": lambda r: f"AIza{drawn(r, 35)}",
    "our own": lambda r: f"sth_{drawn(r, 12)}_{drawn(r, 38)}",
    "JWT": jwt,
    "PEM": pem,
}
KINDS: dict[str, Draw] = {
    "EMAIL": email, "PHONE": phone, "CARD": card, "IBAN": iban, "NATIONAL_ID": national_id, "TAX_ID": tax_id, "IP": ip, "MAC": mac,
}  # fmt: skip
SENTENCES = {
    "en": ("Please note {} for the order.", "It is {}, as I said on 12 May 2024.", "({})", '{{"value": "{}"}}'),
    "de": ("Bitte notieren Sie {} für die Bestellung.", "Das ist {}, danke!"),
    "fr": ("Merci de noter {} pour la commande.", "C'est {} depuis 2019."),
    "es": ("Por favor anote {} para el pedido.", "Es {}; gracias."),
}
ASSIGNED = (
    'password = "{}"',
    "DB_PASSWORD={}",
    "api_key: {}",
    '"client_secret": "{}"',
    "The password is {}",
    "Authorization: Bearer {}",
)


def labelled() -> Iterator[Labelled]:
    """The corpus, the same every time."""
    rng = random.Random(SEED)
    sentences = [sentence for language in SENTENCES.values() for sentence in language]
    for kind, draw in KINDS.items():
        for n in range(EACH):
            value = draw(rng)
            yield Labelled(sentences[n % len(sentences)].format(value), kind, value, kind)
    for name, draw in SECRETS.items():
        for n in range(EACH // 3):
            value = draw(rng)
            yield Labelled(sentences[n % len(sentences)].format(value), "SECRET", value, f"SECRET {name}")
    for n in range(EACH):
        value = drawn(rng, rng.randint(20, 40))
        yield Labelled(ASSIGNED[n % len(ASSIGNED)].format(value), "SECRET", value, "SECRET assigned")
    for _ in range(EACH // 3):
        value = drawn(rng, 16)
        yield Labelled(f"postgres://app:{value}@db.example:5432/app", "SECRET", value, "SECRET in a URL")
    yield from near_misses(rng)


def respelled() -> Iterator[Labelled]:
    """Values as programs, phones and other keyboards write them, and credentials with other forms than a beginning."""
    rng = random.Random(SEED + 2)

    def four(number: str, joint: str) -> str:
        return joint.join(re.findall(".{1,4}", number.replace(" ", "").replace("-", "")))

    def visa(r: random.Random) -> str:
        return luhn("4" + digits(r, 14))

    def unseen(value: str, at: int = 6) -> str:
        return value[:at] + "\u200b" + value[at:]

    made: list[tuple[str, str, Draw]] = [
        ("CARD", "a card with no-break spaces", lambda r: four(visa(r), "\u00a0")),
        ("CARD", "a card with narrow spaces", lambda r: four(visa(r), "\u202f")),
        ("CARD", "a card with dots", lambda r: four(visa(r), ".")),
        ("CARD", "a card with dashes", lambda r: four(visa(r), "\u2013")),
        ("CARD", "a card in wide digits", lambda r: "".join(chr(ord(c) + 0xFEE0) for c in visa(r))),
        ("CARD", "a card in Arabic digits", lambda r: "".join(chr(ord(c) + 0x630) for c in visa(r))),
        ("CARD", "a card with an unseen character", lambda r: unseen(card(r))),
        ("IBAN", "an IBAN in small letters", lambda r: iban(r).lower().replace(" ", "")),
        ("IBAN", "an IBAN with no-break spaces", lambda r: four(iban(r), "\u00a0")),
        ("IBAN", "an IBAN with hyphens", lambda r: four(iban(r), "-")),
        ("PHONE", "a number with no-break spaces", lambda r: f"+49\u00a030\u00a0901{digits(r, 3)}"),
        ("PHONE", "a number with hyphens of print", lambda r: f"+44\u201120\u20117946\u20110{digits(r, 3)}"),
        ("EMAIL", "an e-mail address with umlauts", lambda r: f"j\u00fcrgen{digits(r, 2)}@m\u00fcller-beispiel.de"),
        ("EMAIL", "an e-mail address of a wide domain", lambda r: f"joe{digits(r, 2)}@m\u00fcnchen.de"),
        ("EMAIL", "an e-mail address with an unseen character", lambda r: unseen(email(r), -3)),
        ("EMAIL", "an e-mail address in JSON's escapes", lambda r: email(r).replace("@", "\\u0040")),
        ("SECRET", "a key with an unseen character", lambda r: unseen(f"ghp_{drawn(r, 36)}", 12)),
        ("SECRET", "a bot's token of Telegram", lambda r: f"{r.randint(10**8, 10**10 - 1)}:AA{drawn(r, 33)}"),
        ("SECRET", "a key of Twilio", lambda r: f"SK{drawn(r, 32, '0123456789abcdef')}"),
    ]
    for kind, what, draw in made:
        for n in range(EACH // 4):
            value = draw(rng)
            yield Labelled(
                ("Please note {} for the order.", "It is {}, thanks!")[n % 2].format(value), kind, value, what
            )
    for name in ("AccountKey", "SharedAccessKey"):
        for _ in range(EACH // 4):
            value = base64.b64encode(rng.randbytes(64 if name == "AccountKey" else 32)).decode()
            text = f"DefaultEndpointsProtocol=https;AccountName=acme;{name}={value};EndpointSuffix=core.windows.net"
            yield Labelled(text, "SECRET", value, f"SECRET {name} of Azure")


def hard() -> Iterator[Labelled]:
    """Values as people hide or mangle them: no rule is made for these, and most are not found."""
    rng = random.Random(SEED + 1)
    made: list[tuple[str, str, Draw]] = [
        ("EMAIL", "an e-mail address in words", lambda r: email(r).replace("@", " at ").replace(".", " dot ")),
        ("PHONE", "a national number without a word", lambda r: f"0{r.randint(30, 89)} {digits(r, 7)}"),
        ("IBAN", "an IBAN of small letters and spaces", lambda r: "gb29 nwbk 6016 1331 9268 19"),
        ("CARD", "a card in two lines", lambda r: "\n".join(re.findall(".{8}", luhn("4" + digits(r, 14))))),
        ("SECRET", "a password in a sentence", lambda r: f"use {drawn(r, 12)} to log in"),
        ("SECRET", "a key in two parts", lambda r: f"sk-proj-{drawn(r, 10)} {drawn(r, 30)}"),
    ]
    for kind, what, draw in made:
        for _ in range(EACH // 4):
            value = draw(rng)
            yield Labelled(f"Please note {value} for the order.", kind, value, what)


def near_misses(rng: random.Random) -> Iterator[Labelled]:
    """What has the form and not the check, or only a part of the form: nothing is to be found there."""
    made: list[tuple[str, Draw]] = [
        ("card with a wrong check digit", lambda r: (c := luhn("4" + digits(r, 14)))[:-1] + str((int(c[-1]) + r.randint(1, 9)) % 10)),
        ("IBAN with wrong check digits", lambda r: f"DE00{digits(r, 18)}"),
        ("order number", lambda r: f"ORD-{digits(r, 10)}"),
        ("Unix time in milliseconds", lambda r: f"17{digits(r, 11)}"),
        ("commit", lambda r: drawn(r, 40, "0123456789abcdef")),
        ("UUID", lambda r: "-".join(drawn(r, n, "0123456789abcdef") for n in (8, 4, 4, 4, 12))),
        ("private address", lambda r: f"192.168.{r.randint(0, 255)}.{r.randint(1, 254)}"),
        ("version", lambda r: f"v{r.randint(1, 9)}.{r.randint(0, 20)}.{r.randint(0, 20)}.{r.randint(1, 20)}"),
        ("time of day", lambda r: f"2026-0{r.randint(1, 9)}-1{r.randint(0, 9)}T1{r.randint(0, 9)}:2{r.randint(0, 9)}:33.{digits(r, 6)}"),
        ("file", lambda r: f"icon{digits(r, 2)}@2x.png"),
        ("package", lambda r: f"npm install lodash@4.17.{digits(r, 2)}"),
        ("repository", lambda r: f"git@github.com:acme/tool{digits(r, 2)}.git"),
        ("example password", lambda r: r.choice(["password: your-password-here", 'api_key=os.environ["OPENAI_API_KEY"]', "token = get_token(user)", "password=${DB_PASSWORD}", "secret: <your secret>", "postgres://user:password@localhost/db"])),
        ("key of a manual", lambda r: r.choice(["sk-your-api-key-goes-right-here", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "ghp_your_token"])),
        ("numbers with commas", lambda r: f"{r.randint(1, 999)},{digits(r, 3)},{digits(r, 3)}.{digits(r, 2)}"),
        ("coordinates", lambda r: f"52.{digits(r, 6)}, 13.{digits(r, 6)}"),
        ("colours", lambda r: f"#{drawn(r, 6, '0123456789abcdef')}"),
        ("constant", lambda r: f"MAX_{drawn(r, 5, string.ascii_uppercase)}_SIZE_2048"),
    ]  # fmt: skip
    for what, draw in made:
        for n in range(EACH // 4):
            value = draw(rng)
            yield Labelled(("See {} there.", "{}")[n % 2].format(value), None, None, what)
