"""Providers, keys and what is said about them."""

from __future__ import annotations

import pytest

from app.settings import Provider, Secret, load
from tests.settings.reading import KEYS, TOML, problems


def provider(text: str, environ: dict[str, str], name: str = "x") -> Provider:
    return load(environ, {TOML: text}).providers[name]


@pytest.mark.parametrize(
    ("text", "environ", "api", "base_url", "key"),
    [
        ('kind = "openai"', KEYS, None, None, "sk-o"),
        ('kind = "openai"\napi = "chat"', KEYS, "chat", None, "sk-o"),
        ('kind = "openai"', {"OPENAI_BASE_URL": "http://h/v1", **KEYS}, None, "http://h/v1", "sk-o"),
        ('kind = "openai"\napi = "responses"', {"OPENAI_BASE_URL": "http://h/v1", **KEYS}, "responses", "http://h/v1", "sk-o"),
        ('kind = "openai"\nbase_url = "https://eu.api.openai.com/v1"', KEYS, None, "https://eu.api.openai.com/v1", "sk-o"),
        ('kind = "openai"\nbase_url = "https://api.openai.com.evil.org/v1"', KEYS, None, "https://api.openai.com.evil.org/v1", None),
        ('kind = "openai"\nbase_url = "http://h/v1"', {"OPENAI_BASE_URL": "http://other", **KEYS}, None, "http://h/v1", None),
        ('kind = "openai"\nbase_url = "http://h/v1"\napi_key_env = "OPENAI_API_KEY"', KEYS, None, "http://h/v1", "sk-o"),
        ('kind = "openai"\napi_key_env = ""', KEYS, None, None, None),
        ('kind = "openai"\napi_key_env = "MINE"', {"MINE": " sk-m\n", **KEYS}, None, None, "sk-m"),
        ('kind = "anthropic"', KEYS, None, None, "sk-a"),
        ('kind = "anthropic"', {"ANTHROPIC_BASE_URL": "http://h", **KEYS}, None, "http://h", "sk-a"),
        ('kind = "offline"', KEYS, None, None, None),
    ],
)  # fmt: skip
def test_providers(text: str, environ: dict[str, str], api: str | None, base_url: str | None, key: str | None) -> None:
    found = provider("[providers.x]\n" + text + '\n[models.default]\nchain = ["x/m"]', environ)
    assert (found.api, found.base_url, found.api_key) == (api, base_url, key)


@pytest.mark.parametrize(
    ("kind", "url", "own"),
    [
        ("openai", "", True),
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://API.openai.com", True),
        ("openai", "https://eu.api.openai.com/v1", True),
        ("openai", "https://api.openai.com.evil.test/v1", False),
        ("openai", "https://notapi.openai.com.test/v1", False),
        ("openai", "https://notapi.openai.com/v1", False),
        ("openai", "https://api.anthropic.com", False),
        ("openai", "http://127.0.0.1:8080/v1", False),
        ("anthropic", "", True),
        ("anthropic", "https://api.anthropic.com", True),
        ("anthropic", "http://gateway", False),
    ],
)
def test_who_answers_there(kind: str, url: str, own: bool) -> None:
    """However the URL is given; whether a key goes there and which dialect is spoken follow from one judgement."""
    table = f'[providers.x]\nkind = "{kind}"\n'
    assert provider(table + (f'base_url = "{url}"' if url else ""), KEYS).own_host is own
    assert provider(table, {f"{kind.upper()}_BASE_URL": url, **KEYS}).own_host is own


def test_a_builtin_provider_keeps_its_key_on_another_host() -> None:
    text = '[providers.openai]\nbase_url = "http://gateway/v1"\n[models.default]\nchain = ["openai/m"]'
    assert provider(text, KEYS, "openai") == Provider(
        name="openai", kind="openai", base_url="http://gateway/v1", own_host=False, batch=False, api_key=Secret("sk-o")
    )
    (line,) = problems({}, {TOML: text})
    assert line == (
        "steadyhand.toml:4: models.default.chain: openai/m needs the variable OPENAI_API_KEY, which is not set; "
        'if that server takes no key, write api_key_env = "" in [providers.openai]'
    )
    assert provider(text.replace("\n[m", '\napi_key_env = ""\n[m'), {}, "openai").api_key is None


def test_a_key_is_needed_only_by_a_chain_and_named_once() -> None:
    assert load({}, {TOML: '[providers.x]\nkind = "openai"'}).providers["x"].api_key is None
    found = problems({}, {TOML: '[models.default]\nchain = ["openai/a", "openai/b"]\n[models.b]\nchain = ["openai/a"]'})
    assert found == [
        "steadyhand.toml:2: models.default.chain: openai/a needs the variable OPENAI_API_KEY, which is not set"
    ]


def test_a_key_that_no_header_can_carry() -> None:
    chain = {TOML: '[models.default]\nchain = ["openai/a"]'}
    assert problems({"OPENAI_API_KEY": "sk\nx"}, chain) == [
        "OPENAI_API_KEY: not a key: holds a character that no key has"
    ]
    assert problems({"OPENAI_BASE_URL": "localhost:1"}, {}) == [
        "OPENAI_BASE_URL: base URL: must be an http:// or https:// URL"
    ]


def test_keys_may_come_from_dotenv() -> None:
    files = {TOML: '[models.default]\nchain = ["openai/a"]', ".env": "OPENAI_API_KEY=sk-file"}
    assert load({}, files).providers["openai"].api_key == "sk-file"
    assert problems({"APP_ENV": "production"}, files)


@pytest.mark.parametrize("url", ["redis://:pw@h/1", "rediss://h", "unix:///run/redis.sock"])
def test_a_redis_server(url: str) -> None:
    settings = load({"REDIS_URL": url}, {})
    assert (settings.redis.url, settings.warnings) == (url, ())


def test_the_secret_of_callbacks_comes_from_the_variable_that_is_named() -> None:
    assert load({}, {}).callbacks.secret is None
    assert load({"STEADYHAND_CALLBACK_SECRET": " s\n"}, {}).callbacks.secret == "s"
    found = load({"STEADYHAND_CALLBACK_SECRET": "s", "MINE": "m"}, {TOML: '[callbacks]\nsecret_env = "MINE"'}).callbacks
    assert (found.secret, found.secret_env) == ("m", "MINE")
    assert "'m'" not in repr(found)


def test_repr_shows_no_credential() -> None:
    settings = load(
        {"DATABASE_URL": "postgresql://u:hunter2@h/d", "REDIS_URL": "redis://:hunter2@h", "OPENAI_API_KEY": "hunter2"},
        {".env": "OTHER=hunter2", TOML: '[models.default]\nchain = ["openai/a"]'},
    )
    assert settings.database.url == "postgresql://u:hunter2@h/d"
    assert "hunter2" not in repr(settings)


def test_vendors_have_batches_and_others_where_the_settings_say_so() -> None:
    def has(written: str) -> bool:
        toml = f'[providers.p]\nkind = "openai"\napi_key_env = ""\n{written}\n[models.default]\nchain = ["p/m"]'
        return load({}, {TOML: toml}).providers["p"].batch

    assert has("")
    assert has('base_url = "https://eu.api.openai.com/v1"')
    assert not has('base_url = "http://gateway/v1"')
    assert has('base_url = "http://gateway/v1"\nbatch = true')
    assert not has("batch = false")
    (line,) = problems({}, {TOML: '[providers.p]\nkind = "offline"\nbatch = false'})
    assert line == f"{TOML}:3: providers.p.batch: has no meaning for kind offline"
