"""What `doctor` warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.commands import DONE, run
from app.cli.insecure import insecure
from app.settings import load

QUIET = {
    "STEADYHAND__SERVER__CORS_ORIGINS": '["https://app.example.com"]',
    "STEADYHAND__SERVER__TRUSTED_PROXIES": '["10.0.0.0/8"]',
    "DATABASE_URL": "postgresql://u:s3cret-pw@db.example/x?sslmode=verify-full",
    "REDIS_URL": "rediss://:s3cret-pw@cache.example",
    "OPENAI_API_KEY": "sk-s3cret",
    "OPENAI_BASE_URL": "https://models.example/v1",
    "STEADYHAND__MODELS__DEFAULT__CHAIN": '["openai/m"]',
    "APP_ENV": "production",
}


def warnings(tmp_path: Path, **more: str) -> list[str]:
    environ = QUIET | more
    return insecure(load(environ, {}), environ, [tmp_path, tmp_path])


def test_settings_as_they_should_be_are_quiet(tmp_path: Path) -> None:
    assert warnings(tmp_path) == []
    near = {
        "DATABASE_URL": "postgresql:///x?host=/run",
        "REDIS_URL": "redis://localhost",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    }
    assert warnings(tmp_path, **near, LOG_LEVEL="debug", APP_ENV="development") == []


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("STEADYHAND__SERVER__CORS_ORIGINS", '["*"]', "cors_origins"),
        ("STEADYHAND__SERVER__TRUSTED_PROXIES", '["0.0.0.0/0"]', "0.0.0.0/0"),
        ("STEADYHAND__SERVER__TRUSTED_PROXIES", '["::/0"]', "::/0"),
        ("LOG_LEVEL", "debug", "debug in profile production"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true", "in spans"),
        ("OPENAI_BASE_URL", "http://models.example/v1", "provider openai"),
        ("DATABASE_URL", "postgresql://u:s3cret-pw@db.example/x", "database.url"),
        ("DATABASE_URL", "postgresql://u:s3cret-pw@db.example/x?sslmode=prefer", "database.url"),
        ("REDIS_URL", "redis://:s3cret-pw@10.0.0.1", "redis.url"),
    ],
)
def test_each_is_told_alone_and_without_a_secret(tmp_path: Path, name: str, value: str, why: str) -> None:
    [warning] = warnings(tmp_path, **{name: value})
    assert why in warning
    assert "s3cret" not in warning


def test_a_bootstrap_file_that_all_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert warnings(tmp_path, STEADYHAND__AUTH__BOOTSTRAP_KEY_FILE=str(key)) == [], "it is made with the right mode"
    key.touch(mode=0o644)
    [warning] = warnings(tmp_path, STEADYHAND__AUTH__BOOTSTRAP_KEY_FILE=str(key))
    assert str(key) in warning


def test_a_file_of_secrets_that_all_can_read(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.touch(mode=0o600)
    assert warnings(tmp_path) == []
    path.chmod(0o644)
    [warning] = warnings(tmp_path)
    assert str(path) in warning


def test_validate_tells_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "new")]) == DONE
    with (tmp_path / "new" / "steadyhand.toml").open("a") as settings:
        settings.write('\n[server]\ncors_origins = ["*"]\n')
    capsys.readouterr()
    assert run(["validate", "--workspace", str(tmp_path / "new")]) == DONE
    assert "warning: server.cors_origins has *" in capsys.readouterr().out
