"""Secrets that are mounted as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.errors import ConfigError
from app.settings import load, read_secrets
from app.workspace.load import SHIPPED, load_workspace
from tests.settings.reading import TOML

SECRET = "s3cret-0b1f"
CUSTOM = """\
[providers.local]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
api_key_env = "LOCAL_TOKEN"
[callbacks]
secret_env = 'HOOKS'
[models.default]
chain = ["local/m", "anthropic/x"]
"""


def test_files_are_read_for_every_variable_that_holds_a_secret(tmp_path: Path) -> None:
    environ = {}
    for name in ("LOCAL_TOKEN", "HOOKS", "ANTHROPIC_API_KEY", "REDIS_URL", "DATABASE_URL", "OTHER"):
        path = tmp_path / name
        path.write_text(
            {"REDIS_URL": "redis://:pw@h", "DATABASE_URL": "postgresql://u:pw@h/d"}.get(name, SECRET + name) + "\n"
        )
        environ[f"{name}_FILE"] = str(path)
    files = {TOML: CUSTOM}
    found = read_secrets(environ, files)
    assert "OTHER" not in found
    settings = load({**environ, **found}, files)
    assert settings.providers["local"].api_key == f"{SECRET}LOCAL_TOKEN"
    assert settings.providers["anthropic"].api_key == f"{SECRET}ANTHROPIC_API_KEY"
    assert settings.callbacks.secret == f"{SECRET}HOOKS"
    assert (settings.database.url, settings.redis.url) == ("postgresql://u:pw@h/d", "redis://:pw@h")
    assert settings.dotenv == {}  # nothing of it goes into the environment, where tools and children would see it
    assert SECRET not in repr(settings)


def test_a_name_of_the_environment_counts_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    environ = {"STEADYHAND__PROVIDERS__GW__API_KEY_ENV": "GW", "GW_FILE": str(tmp_path / "key")}
    assert read_secrets(environ, {}) == {"GW": SECRET}
    dotenv = f"OPENAI_API_KEY_FILE={tmp_path / 'key'}\n"
    assert read_secrets({}, {".env": dotenv}) == {"OPENAI_API_KEY": SECRET}


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"", "holds nothing"), (b" \n", "holds nothing"), (b"\xff", "is not text"), (b"a\x00b", "is not text"), (b"x" * 70_000, "more than")],
)  # fmt: skip
def test_a_file_that_gives_no_secret_stops_the_start(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_workspace(SHIPPED, {"OPENAI_API_KEY_FILE": str(path)})
    [problem] = caught.value.problems
    assert str(problem).startswith(f"OPENAI_API_KEY_FILE: OPENAI_API_KEY_FILE: {path} ")
    assert why in str(problem)


def test_both_forms_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    with pytest.raises(ConfigError) as caught:
        read_secrets({"DATABASE_URL": "postgresql://x", "DATABASE_URL_FILE": str(tmp_path / "key")}, {})
    assert "DATABASE_URL is set as well" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert read_secrets({"DATABASE_URL": "postgresql://x", "DATABASE_URL_FILE": ""}, {}) == {}
