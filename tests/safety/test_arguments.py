"""Allow-lists: what they let through, and the many spellings of what they do not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.tool_policy import Caps, Rule, Spend, ToolPolicy
from app.domain.tools import ToolSpec
from app.safety import arguments
from app.safety.arguments import leaving, read, refused, unlisted, wrong_entry
from app.tools import tool
from app.tools.declare import declare
from tests.scripted import tool_spec


def spec(**rules: Rule) -> ToolSpec:
    return tool_spec("act", policy=ToolPolicy(allow=rules))


def allowed(rule: Rule, value: Any) -> bool:
    return unlisted(spec(x=rule), "x", value) is None


HOSTS = Rule(hosts=("example.org", "*.cdn.example", "dev.example:8443", "xn--bcher-kva.example"))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org", "http://example.org/a?b=c#d", "https://EXAMPLE.ORG:443/", "https://example.org./", "HTTPS://example.org",
        "https://a.cdn.example/x", "https://a.b.cdn.example/", "https://dev.example:8443/", "https://b\u00fccher.example/",
    ],
)  # fmt: skip
def test_urls_of_the_list(url: str) -> None:
    assert allowed(HOSTS, url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example", "https://example.org.evil.example", "https://evilexample.org", "https://example.org@evil.example/",
        "https://example.org:x@evil.example/", "https://example.org\\@evil.example/", "https://evil.example\\.example.org/",
        "https://evil.example/#@example.org", "https://evil.example?example.org", "https:/example.org", "//example.org/", "example.org",
        "https://example.org:8443/", "http://example.org:22/", "https://cdn.example/", "https://.cdn.example/", "https://dev.example/",
        "ftp://example.org/", "file:///example.org", "javascript://example.org/%0aalert(1)", "https://ex\u0430mple.org/",
        "https://example\u3002org.evil.example/", "https://example.org\u200b/", "https://exa mple.org/", "https://example.org:\uff14\uff14\uff13/", "https://example.org:+443/",
        "https://@example.org/", "https://user@example.org/", "https://:x@example.org/", "https://a..b.cdn.example/", "https://example\u3002org/", "https://ex\uff41mple.org/",
        "https://example.org\n.evil.example/",
        " https://example.org/", "https://example.org\x00.evil.example/", "https://example%2eorg/", "https://[::1]/", "http://0x7f.1/",
        "http://2130706433/", "http://017700000001/", "http://127.1/", "https://" + "a" * 3000 + ".cdn.example/", "", None, 7,
        {"url": "https://example.org"}, ["https://example.org", "https://evil.example"],
    ],
)  # fmt: skip
def test_urls_that_only_look_like_the_list(url: Any) -> None:
    assert not allowed(HOSTS, url)


FOLDER = Rule(under=("/srv/data", "/tmp/out"))


@pytest.mark.parametrize(
    "path", ["/srv/data/a.txt", "/srv/data/a/./b", "/srv/data//a", "/srv/data/50%25.txt", "/tmp/out/x y"]
)
def test_paths_of_the_list(path: str) -> None:
    assert allowed(FOLDER, path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/srv/database/x", "/srv/data/../../etc/passwd", "/srv/data/%2e%2e/x", "/srv/data/%252e%252e/x",
        "/srv/data/%25252525252e%25252525252e/", "/srv/data/..%2fx", "/srv/data/..\\x", "/srv/data/\uff0e\uff0e/x", "/srv/data/\u2025/x",
        "srv/data/x", "~/x", "file:///srv/data/x", "//srv/data/x", "/srv/data/x\x00.txt", "/srv/data/\u202ex", "/srv/data/" + "a" * 3000, "", 5,
        ["/srv/data/x", "/etc/passwd"],
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(path: Any) -> None:
    assert not allowed(FOLDER, path)


def test_a_link_is_followed_before_the_tool_runs(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "own").symlink_to(inside / "file")
    of = spec(x=Rule(under=(str(inside),)))
    assert leaving(of, msgspec.json.encode({"x": f"{inside}/file"}).decode()) is None
    assert leaving(of, msgspec.json.encode({"x": f"{inside}/own"}).decode()) is None
    assert leaving(of, msgspec.json.encode({"x": [f"{inside}/file", f"{inside}/link/secret"]}).decode()) is not None


AMOUNT = Rule(minimum=0.1, maximum=100)


@pytest.mark.parametrize("value", [0.1, 100, 100.0, 1, "99.99", "0.1", [1, 2]])
def test_amounts_of_the_range(value: Any) -> None:
    assert allowed(AMOUNT, value)


@pytest.mark.parametrize(
    "value",
    [
        0, 0.09999999, 100.00000001, -5, 10**30, 1e308, True, None, "NaN", "inf", "1e1", "0x10", "1_0", " 5", "5 ", "\u0665", "5\n", "", "five", {},
        float("nan"), float("inf"), [1, 101],
    ],
)  # fmt: skip
def test_amounts_that_are_none_or_too_much(value: Any) -> None:
    assert not allowed(AMOUNT, value)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (Rule(one_of=("a", "b")), ["a", "b", ["a", "b"]], ["A", "a ", "c", 1, None, ["a", "c"]]),
        (Rule(one_of=(1, 2.5)), [1, 1.0, 2.5], [True, "1", 2]),
        (Rule(one_of=(True,)), [True], [1, "true", False]),
        (Rule(like=("ORD-*", "*@example.org")), ["ORD-7", "ORD-", "a.b@example.org"], ["ord-7", "ORD-7 x", "ORD-7\n", "ORD-\u0667", "x ORD-7", 7]),
        (Rule(like=("*@example.org",)), ["ann@example.org"], ["a@evil.example,b@example.org", "a@evil@example.org", "a@example.org.evil"]),
        (Rule(like=("/srv/*/*",)), ["/srv/a/b", "/srv/a.b/..c", "/srv/.../v1.", "/srv/.git/x"], ["/srv/../..", "/srv/a/..", "/srv/./a", "/srv/../etc", "/srv/a/."]),
        (Rule(like=("C:\\*", "/srv/*?x", "*")), ["C:\\a", "/srv/a?x", "a.b"], ["C:\\..", "/srv/..?x", "..", "."]),
        (Rule(like=("a*",), one_of=("ab", "b")), ["ab"], ["ac", "b"]),
    ],
)  # fmt: skip
def test_words(rule: Rule, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not allowed(rule, value)] == []
    assert [value for value in bad if allowed(rule, value)] == []


def test_what_is_no_object_is_refused_and_what_is_not_given_is_the_tools_own() -> None:
    of = spec(x=Rule(one_of=("a",)))
    for text in ("[1]", "{", '"x"', "null", "\ud800", "[" * 9000):
        assert refused(of, text) is not None
    assert refused(of, "") is refused(of, '{"y":1}') is refused(tool_spec("free"), "{") is None


@given(st.lists(st.sampled_from(["a", "b", 1, None, "\u202e"]), min_size=1, max_size=4))
def test_of_a_key_that_stands_twice_policy_and_tool_see_the_same(values: list[Any]) -> None:
    @tool(risk="low", effect="read")
    async def act(x: Any) -> str:
        """Does it."""
        return ""

    text = "{" + ",".join(f'"x":{msgspec.json.encode(value).decode()}' for value in values) + "}"
    seen = read(text)
    assert seen is not None
    assert seen["x"] == msgspec.json.decode(text, type=declare(act).arguments).x  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "spends"), [(5, Decimal(5)), (0.1, Decimal("0.1")), ("12.50", Decimal("12.50")), (0, Decimal(0))]
)
def test_what_a_call_spends(given: Any, spends: Decimal) -> None:
    assert arguments.amount(Spend(argument="n", most=10), {"n": given}) == spends


@pytest.mark.parametrize("given", [{}, {"n": None}, {"n": -1}, {"n": "-1"}, {"n": "NaN"}, {"n": True}, {"n": [5]}])
def test_a_call_whose_spending_cannot_be_told_is_refused(given: Any) -> None:
    of = tool_spec("pay", policy=ToolPolicy(caps=Caps(spend=Spend(argument="n", most=10))))
    assert refused(of, msgspec.json.encode(given).decode()) == "n must be given as a plain number that is not negative"


@pytest.mark.parametrize(
    "rule",
    [
        Rule(), Rule(hosts=("https://x",)), Rule(hosts=("X.org",)), Rule(hosts=("*",)), Rule(hosts=("a.*.org",)), Rule(hosts=("b\u00fccher.de",)),
        Rule(under=("data",)), Rule(under=("/a/../b",)), Rule(like=("",)), Rule(like=("****",)), Rule(like=("/srv/../*",)), Rule(like=("/srv/./*",)), Rule(minimum=2, maximum=1),
    ],
)  # fmt: skip
def test_rules_that_say_nothing_sensible(rule: Rule) -> None:
    assert wrong_entry(rule) is not None


@pytest.mark.parametrize(
    ("rule", "text", "good"),
    [
        (Rule(maximum=100), '{"x": 100.000000000000000000001}', False),
        (Rule(maximum=100), '{"x": 100.000000000000000000000}', True),
        (Rule(minimum=0.1), '{"x": 0.1}', True),
        (Rule(minimum=0.1), '{"x": 0.0999999999999999999999}', False),
        (Rule(maximum=100), '{"x": 1e99999999999999999999}', False),
        (Rule(maximum=100), '{"x": 1e1}', True),
        (Rule(one_of=(0.1, 2)), '{"x": 0.1}', True),
        (Rule(one_of=(0.1, 2)), '{"x": 2.0}', True),
        (Rule(one_of=(0.1, 2)), '{"x": 0.10000000000000000000001}', False),
        (Rule(one_of=(1,)), '{"x": true}', False),
    ],
)
def test_numbers_are_judged_as_they_were_written(rule: Rule, text: str, good: bool) -> None:
    assert (refused(spec(x=rule), text) is None) is good
