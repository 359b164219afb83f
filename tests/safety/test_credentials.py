"""Every credential of the table, and every way of writing one: found in whole texts, and taken out of answers at every split."""

from __future__ import annotations

import pytest

from app.safety.beginnings import BOUNDS
from app.safety.credentials import RULE
from app.safety.entities import find_now
from app.safety.people import People
from app.safety.streams import Stream

MIXED = "aB3dE5gH7jK9mN1pQ3sTuV5wX7yZ9" * 3
HEX = "0123456789abcdef" * 4
UPPER = "Q9Z8R7T6" * 8
LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB"
BODIES = {
    "sk-": MIXED[:48], "sk_": f"live_{MIXED[:24]}", "rk_": f"test_{MIXED[:24]}", "AKIA": UPPER[:16], "ASIA": UPPER[:16],
    "github_": f"pat_{MIXED[:22]}_{MIXED[:59]}", "hooks.slack.com/services/": f"T0ABCDEFG/B0ABCDEFG/{MIXED[:24]}", "AIza": MIXED[:35],
    "npm_": MIXED[:36], "rubygems_": HEX[:48], "SG.": f"{MIXED[:22]}.{MIXED[:43]}", "xkeysib-": HEX, "dop_": f"v1_{HEX}", "doo_": f"v1_{HEX}",
    "dor_": f"v1_{HEX}", "dapi": HEX[:32], "shpat_": HEX[:32], "shpss_": HEX[:32], "shpca_": HEX[:32], "shppa_": HEX[:32],
    "lin_": f"api_{MIXED[:40]}", "AGE-": f"SECRET-KEY-1{UPPER[:58]}", "ATATT": f"3xFfGF0{MIXED[:60]}", "dckr_": f"pat_{MIXED[:27]}",
    "sbp_": HEX[:40], "NRAK-": UPPER[:27], "PMAK-": f"{HEX[:24]}-{HEX[:34]}", "pul-": HEX[:40], "pscale_": f"tkn_{MIXED[:43]}",
    "lsv2_": f"pt_{HEX[:32]}_{HEX[:10]}", "glsa_": f"{MIXED[:32]}_{HEX[:8]}", "SK": HEX[:32], ":AA": MIXED[:33],
    "sth_": f"{MIXED[:12]}_{MIXED[:38]}", "eyJ": f"{MIXED[:20]}.eyJ{MIXED[:20]}.{MIXED[:30]}",
}  # fmt: skip
"""What follows a literal; of the others, 80 letters and digits do."""
KEYS = {literal: literal + BODIES.get(literal, MIXED[:80]) for literal in RULE} | {
    ":AA": f"123456789{':AA' + MIXED[:33]}"
}
PASSWORD = "Tr0ub4dor&3xyz9"
WRITTEN = [
    f"> -----BEGIN RSA PRIVATE KEY-----\n> {LINE}\n> {LINE}\n> -----END RSA PRIVATE KEY-----",
    f"1 | -----BEGIN PRIVATE KEY-----\n2 | {LINE}\n3 | {LINE}\n4 | -----END PRIVATE KEY-----",
    f'("-----BEGIN PRIVATE KEY-----\\n"\n    "{LINE}\\n"\n    "{LINE}\\n"\n    "-----END PRIVATE KEY-----")',
    f"-----BEGIN PRIVATE KEY-----\\n{LINE}\\n{LINE}\\n-----END PRIVATE KEY-----",
    f"**Password:** {PASSWORD}", f"**Password**: {PASSWORD}", f"- *Password*: **{PASSWORD}**", f"**API key**: `{MIXED[:24]}`",
    f"| password | {PASSWORD} |", f"| **Password** | `{PASSWORD}` |", f"<password>{PASSWORD}</password>", f"<apiKey>{MIXED[:24]}</apiKey>",
    f"csrf_token={MIXED[:24]}", f"page_access_token: {MIXED[:24]}", f"The next token is {MIXED[:24]}", f"next_page_password={PASSWORD}", f"tool --token {MIXED[:24]}",
    f"mysql --password {PASSWORD}", f"tool --api-key '{MIXED[:24]}'", f"tool --db-password={PASSWORD}", f"curl -u admin:{PASSWORD} https://x",
    f"curl --user 'admin:{PASSWORD}'", f"the password was {PASSWORD}", f"The password is {PASSWORD}.", f"DB_PASS={PASSWORD}",
    f"Passwort: {PASSWORD}", f"Authorization: token {MIXED[:30]}", f'"Authorization": "Token {MIXED[:30]}"', f"authorization: bearer {MIXED[:30]}",
    f'{{"text":"{{\\"password\\": \\"{PASSWORD}\\"}}"}}', f'"{{\\\\\\"password\\\\\\":\\\\\\"{PASSWORD}\\\\\\"}}"', f"password => '{PASSWORD}'",
]  # fmt: skip


def shown(parts: list[str]) -> str:
    guard = Stream(())
    return "".join(map(guard.push, parts)) + guard.end()


@pytest.mark.parametrize("literal", RULE)
@pytest.mark.parametrize("before", ["", "the key is ", "_", "token-", '"', "(x)/"])
def test_every_credential_of_the_table(literal: str, before: str) -> None:
    key = KEYS[literal]
    before = before if literal != ":AA" else before.replace("_", " ").replace("-", " ")
    text = f"{before}{key} and on"
    assert [(one.kind, text[one.start : one.end]) for one in find_now(text)] == [("SECRET", key)]
    whole = shown([text])
    assert key[-8:] not in whole
    for at in range(1, len(text)):
        assert shown([text[:at], text[at:]]) == whole, at
    assert shown(list(text)) == whole


@pytest.mark.parametrize("literal", RULE)
def test_a_credential_is_no_part_of_a_word(literal: str) -> None:
    assert find_now(f"ab{KEYS[literal].lstrip('123456789')}c") == []


@pytest.mark.parametrize("text", WRITTEN)
def test_every_way_of_writing_one(text: str) -> None:
    value = next(one for one in (LINE, PASSWORD, MIXED[:24]) if one in text)
    for said in (text, f"Here: {text}\nand so on."):
        found = [said[one.start : one.end] for one in find_now(said)]
        assert len(found) == 1
        assert value in found[0]
        whole = shown([said])
        assert value not in whole
        assert value[3:-3] not in whole
        for at in range(1, len(said)):
            assert shown([said[:at], said[at:]]) == whole, at
        assert shown(list(said)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "docker run -u 1000:1000 image", "chown --user root:wheel-group", "--- PASS: TestFoo123 (0.00s)", "PASS: TestFoo123", "pass: GermanyVisit2",
        "bypass=Something1Else", "x-sk-learn-something-with-a-long-name", "SKU-123 SKILLS SK", "a | token | of the next page |", "<token>description</token>",
        "--token-file /etc/some/token", "use --password to be asked for one, or --token", "https://hooks.slack.com/services/ is where they are", "lin_reg = fit(x)",
        f'"next_page_token": "{MIXED[:32]}"', f"nextPageToken={MIXED[:32]}", f"tool --page-token {MIXED[:32]}", f"| sync-token | {MIXED[:32]} |",
        f"NextContinuationToken: {MIXED[:32]}", f"<cursorToken>{MIXED[:32]}</cursorToken>", f"its `next_token` is {MIXED[:32]}", "age-old AGE-RELATED", "12:AA", "the token was expired yesterday", "the secret is out", "| api_key | string, required |", "-----BEGIN PRIVATE KEY-----",
        "A file begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.", "shpat_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "pul-request", "glrt-short",
    ],
)  # fmt: skip
def test_what_only_looks_like_one(text: str) -> None:
    assert find_now(text) == []
    assert shown([text]) == text
    assert shown(list(text)) == text


def test_a_quoted_key_is_held_back_no_longer_than_its_bound() -> None:
    guard = Stream(())
    guard.push("> -----BEGIN PRIVATE KEY-----\n")
    pieces = 0
    while not guard.acted:
        guard.push(f"> {LINE}\n")
        pieces += 1
    assert (pieces - 1) * (len(LINE) + 3) <= BOUNDS["pem"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("see https://x.example/?m=jo.smith%40example.com&n=50%40 off", "EMAIL", "jo.smith%40example.com"),
        ("card: 4111  1111  1111  1111, yes", "CARD", "4111  1111  1111  1111"),
        ("12  4111  1111  1111  1111  13  14", "CARD", "4111  1111  1111  1111"),
    ],
)
def test_addresses_in_urls_and_cards_in_columns(text: str, kind: str, value: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in find_now(text)] == [(kind, value)]

    def out(parts: list[str]) -> str:
        guard = People()
        return "".join(map(guard.push, parts)) + guard.end()

    whole = out([text])
    assert value not in whole
    for at in range(1, len(text)):
        assert out([text[:at], text[at:]]) == whole, at
    assert out(list(text)) == whole
