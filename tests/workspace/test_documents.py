from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ConfigError
from app.workspace.documents import MAX_BYTES, parse, read


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse("x.yaml", text)
    return [str(problem) for problem in caught.value.problems]


def test_data_and_lines() -> None:
    document = parse(
        "x.yaml", "a: 1\nb:\n  - c: [x, y]\n  - 2020-01-01\nd: {e: yes, f: null, g: 1.5}\nh: &h [1]\ni: *h\n"
    )
    assert document.data == {
        "a": 1,
        "b": [{"c": ["x", "y"]}, "2020-01-01"],
        "d": {"e": True, "f": None, "g": 1.5},
        "h": [1],
        "i": [1],
    }
    assert document.where(("b", "0", "c", "1")) == "x.yaml:3"
    assert document.where(("d", "f")) == "x.yaml:5"
    assert document.where(("b", "1", "nothing", "here")) == "x.yaml:4"
    assert document.where(()) == "x.yaml:1"


BOMB = "a: &a [{}]\nb: &b [{}]\nc: &c [{}]\nd: [{}]".format(
    ",".join("x" * 100), ",".join(["*a"] * 100), ",".join(["*b"] * 100), ",".join(["*c"] * 100)
)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "empty"),
        ("# only a comment", 1, "empty"),
        ("a: 1\na: 2", 2, "a: stands twice; first on line 1"),
        ("b:\n  a: 1\n  'a': 2", 3, "b.a: stands twice; first on line 2"),
        ("a:\n\tb: 1", 2, "indent with spaces, not tabs"),
        ("a: 1\nb: c: d", 2, "mapping values are not allowed here"),
        ("a: [1,\n2", 2, "expected ',' or ']'"),
        ("a: 1\n---\nb: 1", 2, "expected a single document"),
        ("a: *b", 1, "undefined alias"),
        ("1: a", 1, "keys are text"),
        ("a: 1\non: x", 2, "keys are text"),
        ("? [a]\n: 1", 1, "keys are text"),
        ("a: &a {b: 1}\nc: {<<: *a}", 2, "merge keys are not supported"),
        ("a: !!python/name:os.system x", 1, "tag"),
        ("a: !mine x", 1, "the tag !mine is not allowed"),
        ("a: !!binary x", 1, "tag"),
        ("a: !!set {x}", 1, "tag"),
        ("a: .inf", 1, "must be a finite number"),
        ("a: " + "9" * 5000, 1, "is no int"),
        ("a: !!int x", 1, "is no int"),
        ('a: "\\ud800"', 1, "lone surrogate"),
        ('a: "\\0"', 1, "NUL"),
        ('"\\ud800": 1', 1, "keys are text"),
        ("a: 1\nb: \x01", 2, "character U+0001 is not allowed"),
        (BOMB, 1, "too many values"),
        ("a: &a [*a]", 1, "too many values or levels"),
        ("[" * 60 + "]" * 60, 1, "too many values or levels"),
        ("[" * 20_000, 1, "nested too deep"),
    ],
)
def test_what_is_refused(text: str, line: int, why: str) -> None:
    (found,) = problems(text)
    assert found.startswith(f"x.yaml:{line}: ")
    assert why in found


def test_all_problems_of_a_file_that_parses() -> None:
    assert [line.partition(": ")[0] for line in problems("a: 1\na: 2\n3: x\nb: !no y\n")] == [
        "x.yaml:2",
        "x.yaml:3",
        "x.yaml:4",
    ]


@given(st.text("ab:- \n\t[]{}&*!|>'\"%#,?1\x00é\U0001f600", max_size=60))
def test_no_text_crashes(text: str) -> None:
    try:
        parse("x.yaml", text)
    except ConfigError as error:
        found = error.problems
    else:
        found = ()
    assert all(problem.where.startswith("x.yaml:") and problem.what for problem in found)


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(good).data == {"a": 1}
    bad, large = tmp_path / "bad.yaml", tmp_path / "large.yaml"
    bad.write_bytes(b"a: \xff")
    large.write_text("#" * (MAX_BYTES + 1))
    for path, what in ((bad, "cannot be read"), (large, "too large"), (tmp_path / "none.yaml", "cannot be read")):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert [(p.where, p.what) for p in caught.value.problems] == [(str(path), what)]
