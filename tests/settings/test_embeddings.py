"""[embeddings]: who makes vectors."""

from __future__ import annotations

import pytest

from app.settings import Embeddings, load
from tests.settings.reading import KEYS, TOML, problems


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("[embeddings]", None),
        ('[embeddings]\nprovider = "offline"', Embeddings(provider="offline", model="")),
        (
            '[embeddings]\nprovider = "offline"\ndimensions = 64',
            Embeddings(provider="offline", model="", dimensions=64),
        ),
        ('[embeddings]\nprovider = "openai"\nmodel = "m"', Embeddings(provider="openai", model="m")),
        (
            '[embeddings]\nprovider = "x"\nmodel = "m"\n[providers.x]\nkind = "openai"\nbase_url = "http://h/v1"',
            Embeddings(provider="x", model="m"),
        ),
    ],
)
def test_who_makes_vectors(text: str, found: Embeddings | None) -> None:
    assert load(KEYS, {TOML: text}).embeddings == found


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('model = "m"', "steadyhand.toml:1: embeddings.provider: missing: one of the providers"),
        ('provider = "opnai"\nmodel = "m"', "steadyhand.toml:2: embeddings.provider: opnai is not there; known: anthropic, offline, openai"),
        ('provider = "openai"', "steadyhand.toml:1: embeddings.model: missing, such as text-embedding-3-small"),
        ('provider = "offline"\nmodel = "m"', "steadyhand.toml:3: embeddings.model: has no meaning for kind offline"),
        ('provider = "anthropic"\nmodel = "m"', "steadyhand.toml:2: embeddings.provider: anthropic is of kind anthropic, which has no embeddings; use kind openai or offline"),
        ('provider = "offline"\ndimensions = 1', "steadyhand.toml:3: embeddings.dimensions: expected int >= 8"),
        ('provider = "offline"\nmodle = "m"', "steadyhand.toml:3: embeddings.modle: unknown; did you mean embeddings.model?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(text: str, wrong: str) -> None:
    assert problems(KEYS, {TOML: "[embeddings]\n" + text}) == [wrong]


def test_a_provider_of_vectors_needs_its_key() -> None:
    text = '[embeddings]\nprovider = "openai"\nmodel = "m"\n'
    wanted = "embeddings.provider: openai/m needs the variable OPENAI_API_KEY, which is not set"
    assert problems({}, {TOML: text}) == [f"steadyhand.toml:2: {wanted}"]
