"""Nothing that an answer says is fetched by being shown: as a renderer of markdown reads it, and as a browser does."""

from __future__ import annotations

import random

import pytest

from app.domain.screening import Screening
from app.safety.guard import Screener
from app.safety.links import allowed
from app.safety.rendering import BOUND, Rendering
from tests.safety.payloads import BENIGN, CHANGED, IMAGES, LINKS, REFERENCES, TAGS, D
from tests.safety.renderers import EVIL, fetches, rendered, runs

POLICY = Screening(link_hosts=("good.org",))
PAYLOADS = (*IMAGES, *REFERENCES, *TAGS)


def out(text: str, size: int | None = None, policy: Screening = POLICY) -> str:
    guard = Screener().guard(policy, "")
    assert guard is not None
    size = size or len(text) or 1
    return "".join(guard.push(text[at : at + size]) for at in range(0, len(text), size)) + guard.end()


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_what_would_be_fetched_does_nothing(text: str) -> None:
    for said in (text, f"Well. {text} That is all.", f"Well.\n\n{text}\n\nThat is all."):
        whole = out(said)
        assert fetches(whole) == []
        for size in (1, 2, 3, 5, 7, 16, 64):
            assert out(said, size) == whole, size


def test_most_of_them_would_be_fetched() -> None:
    """The renderers see what is to be seen: they find it where nothing guards."""
    assert sum(bool(fetches(text)) for text in PAYLOADS) > 0.85 * len(PAYLOADS)


@pytest.mark.parametrize("text", LINKS, ids=range(len(LINKS)))
def test_no_link_runs_a_program(text: str) -> None:
    for output in ("secrets", "pii"):
        for size in (None, 1, 3, 7):
            assert runs(out(text, size, Screening(output=output))) == []


@pytest.mark.parametrize("text", BENIGN, ids=range(len(BENIGN)))
def test_what_is_not_fetched_stays(text: str) -> None:
    for size in (None, 1, 2, 3, 5, 7, 16):
        assert out(text, size) == text


def test_how_many_answers_are_changed() -> None:
    said = (*BENIGN, *CHANGED)
    changed = [text for text in said if out(text) != text]
    assert changed == list(CHANGED)
    for text in changed:
        assert out(text).replace(" ", "") == text.replace(" ", "")


PIECES = (
    "![", "![a]", "![a](", "![a][r]", "![r]", "[r]", "[r]:", "]:", "](", ")", "(", "]", "[", "!", "\\", "\\\\", "`", "``", "```", "\n", "\n\n", "\n> ", "> ", ">", "- ", "1. ", "  ",
    "    ", " ", "\t", "<", "</", ">", "/>", "<img ", "<img\n", "<IMG ", "<a ", "<b", "<svg>", "<image ", "<style>", "<script>", "<!--", "-->", "<![CDATA[", "<?", "<div>", "</div>",
    "<pre>", "<p ", "src=", "src", "href=", "srcset=", "style=", "poster=", "onload=", "data=", "=", '"', "'", "https://", "//", "https:", "&#47;", "&sol;", "&#x2f;", "&lt;img ", "\\/",
    "evil.io/x", "//evil.io", "https://evil.io/?d=1", "/ok.png", "https://good.org/x.png", "https\\://evil.io", "background:url(//evil.io)", "alt", "a", "x y", "&", ";", "|", "*", "_",
    "\x0c", "\xa0", "\x00", "\r", "\r\n", "~~~", "#", "---", "a=b", "alt=\"x\"", ' "t"', "<https://evil.io>", "<EMAIL_1>", "ghp_" + "aB3" * 12, "ann@example.org", "password=Ab12Cd34!x",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_no_mixture_is_fetched(seed: int) -> None:
    """Differential: whatever is said, a renderer finds nothing of another site in it, and cuts change nothing."""
    rng = random.Random(seed)
    for n in range(700):
        text = "".join(rng.choices(PIECES, k=rng.randint(2, 16)))
        if rng.random() < 0.3:
            text = "".join(rng.choice(("> ", "- ", ">> ", "1. > ")) + line for line in text.splitlines(keepends=True))
        policy = Screening(link_hosts=("good.org",), output="pii" if n % 4 == 0 else "secrets")
        whole = out(text, policy=policy)
        assert fetches(whole) == [], (text, whole)
        at = rng.randint(0, len(text))
        guard = Screener().guard(policy, "")
        assert guard is not None
        assert guard.push(text[:at]) + guard.push(text[at:]) + guard.end() == whole, (text, at)
        assert out(text, 1, policy) == whole, text


@pytest.mark.parametrize("seed", range(3))
def test_no_payload_in_a_mixture_is_fetched(seed: int) -> None:
    rng = random.Random(100 + seed)
    for _ in range(400):
        around = ["".join(rng.choices(PIECES, k=rng.randint(0, 5))) for _ in range(3)]
        text = f"{around[0]}{rng.choice(PAYLOADS)}{around[1]}{rng.choice(PAYLOADS)}{around[2]}"
        assert fetches(out(text)) == [], text


def test_held_text_is_bounded() -> None:
    for begin, body in (("![", "a"), ("![a](", "/a"), ('![a](/a "', "a"), ("<", "a "), ('<a b="', "c"), ("![a", " ")):
        one = Rendering(())
        shown = pushed = 0
        for part in (begin, *[body] * 8_000):
            shown += len(one.push(part))
            pushed += len(part)
            assert pushed - shown <= BOUND


def test_what_stays_visible_is_what_was_said() -> None:
    assert out("![a](https://evil.io%2f.good.org/)") == "! [a](https://evil.io%2f.good.org/)"
    assert D in rendered(out(f"![a](https://{EVIL}.example/{D})"))
    assert out("![a](https://evil.com/x.png)") == "! [a](https://evil.com/x.png)"
    assert out("<img src=//evil.com/x.png>") == "< img src=//evil.com/x.png>"
    assert out("![a] and\n\n[a]: https://evil.com/") == "![a] and\n\n[a] : https://evil.com/"
    assert out("[a]: https://evil.com/\n\n![a]") == "[a]: https://evil.com/\n\n! [a]"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://good.org/a", True), ("//img.good.org", True), ("https://GOOD.org./a", True), ("https://good.org:8443/", True),
        ("https://evil.io/good.org", False), ("https://good.org.evil.io/", False), ("https://notgood.org/", False), ("https://x:y@good.org/", False),
        ("https://evil.io\\@good.org/", False), ("https://evil.io#good.org", False), ("https:good.org", False), ("https://[good.org", False),
        ("https://evil.io%2f.good.org/", False), ("https://evil.io&sol;.good.org/", False), ("https://good.org/%2f?a=%40&b", True),
    ],
)  # fmt: skip
def test_which_hosts_are_allowed(url: str, good: bool) -> None:
    assert allowed(url, ("good.org",)) is good
