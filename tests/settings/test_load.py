"""Which layer wins, and what is read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from app.domain.errors import ConfigError
from app.settings import BUILTIN_PROVIDERS, Target, load, read_files
from app.settings.options import WELL_KNOWN, Options
from tests.settings.reading import KEYS, TOML, problems


def test_defaults_need_nothing() -> None:
    settings = load({}, {})
    assert (settings.server.host, settings.server.port, settings.server.max_body, settings.server.max_streams) == (
        "127.0.0.1",
        8000,
        1_000_000,
        2000,
    )
    assert (settings.database.url, settings.database.pool_min, settings.database.pool_max) == (None, 2, 20)
    assert settings.server.max_stream_age == 570.0
    assert (settings.worker.concurrency, settings.worker.drain) == (64, 110.0)
    assert (settings.worker.lease, settings.worker.max_attempts) == (30.0, 3)
    assert (settings.safety.approval_ttl, settings.safety.four_eyes) == (86_400.0, None)
    assert load({"STEADYHAND__SAFETY__FOUR_EYES": "critical"}, {}).safety.four_eyes == "critical"
    assert (settings.breaker.failures, settings.breaker.open_seconds) == (5, 30.0)
    callbacks = settings.callbacks
    assert (callbacks.allow_private, callbacks.timeout, callbacks.max_attempts) == (False, 10.0, 8)
    assert (settings.default_agent, settings.data_dir, settings.profile) == ("assistant", ".steadyhand", "development")
    assert settings.routes.keys() == {"default"}
    default = settings.routes["default"]
    assert default.chain == (Target("offline", "offline"),)
    assert (default.timeout, default.first_token_timeout, default.idle_timeout) == (60.0, 20.0, 30.0)
    assert settings.providers.keys() == BUILTIN_PROVIDERS.keys()
    assert settings.warnings == ()
    assert "[models.default] chain" in settings.advice[0]


@pytest.mark.parametrize(
    ("mapping", "files", "port"),
    [
        ({}, {TOML: "[server]\nport = 1"}, 1),
        ({}, {"steadyhand.development.toml": "[server]\nport = 2", TOML: "[server]\nport = 1"}, 2),
        ({"APP_ENV": "prod"}, {TOML: "[server]\nport = 1", "steadyhand.prod.toml": "[server]\nport = 2"}, 2),
        ({"APP_ENV": "prod"}, {TOML: "[server]\nport = 1", "steadyhand.test.toml": "[server]\nport = 2"}, 1),
        ({"APP_ENV": ""}, {TOML: "[server]\nport = 1", ".env": "STEADYHAND__SERVER__PORT=3"}, 3),
        ({}, {"steadyhand.development.toml": "[server]\nport = 2", ".env": "STEADYHAND__SERVER__PORT=3"}, 3),
        ({"APP_ENV": "prod"}, {TOML: "[server]\nport = 1", ".env": "STEADYHAND__SERVER__PORT=3"}, 1),
        ({"STEADYHAND__SERVER__PORT": "4"}, {TOML: "[server]\nport = 1", ".env": "STEADYHAND__SERVER__PORT=3"}, 4),
        ({"steadyhand__Server__port": "4"}, {".env": "STEADYHAND__SERVER__PORT=3"}, 4),
        ({"STEADYHAND__SERVER": '{"port": 4}'}, {TOML: "[server]\nport = 1\nmax_body = 7"}, 4),
        ({"STEADYHAND__SERVER": '{"port": 4}', "STEADYHAND__SERVER__PORT": "5"}, {}, 5),
        ({}, {"w/.env": "STEADYHAND__SERVER__PORT=3", "c/.env": "STEADYHAND__SERVER__PORT=4"}, 4),
    ],
)
def test_later_layers_win(mapping: dict[str, str], files: dict[str, str], port: int) -> None:
    assert load(mapping, files).server.port == port


def test_layers_merge_key_by_key() -> None:
    toml = '[server]\nhost = "h"\nport = 1\n[models.Fast]\nchain = ["openai/a/b:c"]\ntimeout = 9'
    settings = load(
        {"STEADYHAND__SERVER__PORT": "2", "STEADYHAND__MODELS__FAST__IDLE_TIMEOUT": "1.5", **KEYS}, {TOML: toml}
    )
    assert (settings.server.host, settings.server.port) == ("h", 2)
    assert settings.routes.keys() == {"default", "Fast"}
    fast = settings.routes["Fast"]
    assert (fast.chain, fast.timeout, fast.idle_timeout) == ((Target("openai", "a/b:c"),), 9.0, 1.5)


def test_lists_and_tables_are_json_in_the_environment() -> None:
    chain = (
        load({"STEADYHAND__MODELS__DEFAULT__CHAIN": '["openai/x", "offline/y"]', **KEYS}, {}).routes["default"].chain
    )
    assert [str(target) for target in chain] == ["openai/x", "offline/y"]
    routes = load({"STEADYHAND__MODELS": '{"a": {"chain": ["offline/z"], "timeout": 3}}'}, {}).routes
    assert routes["a"].timeout == 3.0


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("REDIS_URL", "redis://h", "redis://h"),
        ("STEADYHAND_DATA_DIR", "/data", "/data"),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_FORMAT", "json", "json"),
    ],
)
def test_well_known_names(name: str, value: str, read: str) -> None:
    def found(environ: dict[str, str], files: dict[str, str]) -> object:
        value: object = load(environ, files)
        for key in WELL_KNOWN[name]:
            value = getattr(value, key)
        return value

    assert found({name: value}, {}) == read
    assert found({}, {".env": f"{name}={value}"}) == read
    assert found({name: ""}, {}) == found({}, {})  # as a compose file passes an unset variable on
    assert found({name: ""}, {".env": f"{name}={value}"}) == found({}, {})  # the real environment goes before .env


def test_the_real_environment_goes_before_dotenv_whatever_the_spelling_of_the_option() -> None:
    settings = load({"DATABASE_URL": "postgres://real"}, {".env": "STEADYHAND__DATABASE__URL=postgres://file"})
    assert settings.database.url == "postgres://real"


def test_other_variables_are_not_ours() -> None:
    """A Kubernetes service named steadyhand injects STEADYHAND_PORT and its like."""
    assert load({"STEADYHAND_PORT": "tcp://10.0.0.1:80", "STEADYHAND_SERVICE_HOST": "10.0.0.1"}, {}) == load({}, {})


def test_dotenv_syntax() -> None:
    text = "\n".join(
        [
            "# comment",
            "",
            "A=1",
            "export B = two words # comment",
            "C='single # kept $x \\n'",
            'D="double \\"quoted\\" \\n\\t\\\\ end" # comment',
            "E=a#b",
            "F=",
            "G= # nothing",
            "H='a=b'",
        ]
    )
    found = load({"H": "real"}, {".env": text}).dotenv
    assert found == {
        "A": "1",
        "B": "two words",
        "C": "single # kept $x \\n",
        "D": 'double "quoted" \n\t\\ end',
        "E": "a#b",
    }


def test_dotenv_errors_name_every_line() -> None:
    found = problems({}, {".env": "A=\"open\nNOPE\nSTEADYHAND__SERVER__PORT=x\nB='a' b\nAPP_ENV=prod\n1X=2\nC=a\x00"})
    assert [line.split(": ")[0] for line in found] == [
        ".env:1",
        ".env:2",
        ".env:4",
        ".env:6",
        ".env:7",
        ".env:5",
        ".env:3",
    ]


def test_reading_a_folder(tmp_path: Path) -> None:
    workspace, current = tmp_path / "w", tmp_path / "c"
    for folder in (workspace, current):
        folder.mkdir()
        (folder / ".env").write_text(f"STEADYHAND__DEFAULT_AGENT={folder.name}\nSTEADYHAND__SERVER__HOST={folder.name}")
    (current / ".env").write_text("STEADYHAND__DEFAULT_AGENT=c")
    (workspace / TOML).write_bytes(b"\xef\xbb\xbf[server]\nport = 1")
    (workspace / "steadyhand.prod.toml").write_text("[server]\nport = 2")

    development = read_files(workspace, {}, current=current)
    settings = load({}, development)
    assert (settings.server.port, settings.server.host, settings.default_agent) == (1, "w", "c")
    production = read_files(workspace, {"APP_ENV": "prod"}, current=current)
    assert [Path(name).name for name in production] == [TOML, "steadyhand.prod.toml"]
    assert read_files(tmp_path, {"APP_ENV": "../prod"}, current=tmp_path) == {}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / TOML).write_bytes(b"a = '\xff'")
    (tmp_path / "steadyhand.development.toml").mkdir()
    (tmp_path / ".env").write_text("A" * 1_000_001)
    with pytest.raises(ConfigError) as caught:
        read_files(tmp_path, {}, current=tmp_path)
    assert [(Path(p.where).name, p.what) for p in caught.value.problems] == [
        (TOML, "cannot be read"),
        ("steadyhand.development.toml", "cannot be read"),
        (".env", "too large"),
    ]


def test_the_template_names_every_variable() -> None:
    text = (Path(__file__).parents[2] / ".env.template").read_text()
    names = {line.removeprefix("# ").partition("=")[0] for line in text.splitlines() if "=" in line}
    wanted = {*WELL_KNOWN, "APP_ENV", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"}
    wanted.add("STEADYHAND_CALLBACK_SECRET")
    for field in msgspec.structs.fields(Options):
        if field.name == "models":
            wanted |= {
                f"STEADYHAND__MODELS__DEFAULT__{key.upper()}"
                for key in (
                    "chain",
                    "timeout",
                    "first_token_timeout",
                    "idle_timeout",
                    "on_midstream",
                    "hedge_after",
                    "windows",
                )
            }
        elif field.name == "providers":
            wanted |= {
                f"STEADYHAND__PROVIDERS__LOCAL__{key.upper()}" for key in ("kind", "api", "api_key_env", "base_url")
            }
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            wanted |= {f"STEADYHAND__{field.name}__{key}".upper() for key in field.type.__struct_fields__}
        else:
            wanted.add(f"STEADYHAND__{field.name}".upper())
    assert wanted <= names
    assert load({}, {".env": text}) == load({}, {})
    options = "\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# STEADYHAND__"))
    settings = load({"LOCAL_API_KEY": "k", **KEYS}, {".env": options.replace("/MODEL", "/m")})
    assert settings.routes["default"].chain == (Target("openai", "m"), Target("anthropic", "m"))
    assert settings.providers["local"].api_key == "k"
