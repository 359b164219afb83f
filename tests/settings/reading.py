"""What the tests of settings share."""

from __future__ import annotations

import pytest

from app.domain.errors import ConfigError
from app.settings import load

TOML = "steadyhand.toml"


KEYS = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a"}


def problems(mapping: dict[str, str], files: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(mapping, files)
    return [str(problem) for problem in caught.value.problems]
