"""[auth]: who may use the service."""

from __future__ import annotations

import pytest

from app.settings import load
from app.settings.options import JWT_ALGORITHMS, AuthOptions
from tests.settings.reading import KEYS, TOML, problems

TOKENS = 'jwt_issuer = "https://i"\njwt_audience = "a"\njwks_url = "https://i/keys"\n'


def test_what_is_set() -> None:
    assert load(KEYS, {TOML: ""}).auth == AuthOptions()
    auth = load(KEYS, {TOML: f'[auth]\nbootstrap_key_file = "/run/secrets/key"\nmetrics = "key"\n{TOKENS}'}).auth
    assert (auth.bootstrap_key_file, auth.metrics, auth.jwks_url) == ("/run/secrets/key", "key", "https://i/keys")
    assert auth.jwt_algorithms == JWT_ALGORITHMS
    assert not {"none", "HS256", "HS384", "HS512"} & set[str](JWT_ALGORITHMS)
    assert auth.jwt_scopes == ("runs",)
    empty = {
        f"STEADYHAND__AUTH__{name}": "" for name in ("JWT_ISSUER", "JWT_AUDIENCE", "JWKS_URL", "BOOTSTRAP_KEY_FILE")
    }
    assert load(KEYS | empty, {}).auth == AuthOptions()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('jwt_issuer = "https://i"\njwt_audience = "a"', "auth.jwks_url: is needed with the others"),
        ('jwks_url = "https://i"', "auth.jwt_issuer: is needed with the others"),
        ('jwt_tenant = "a"', "auth.jwt_tenant: says something of tokens"),
        ("jwt_leeway = 5", "auth.jwt_leeway: says something of tokens"),
        (TOKENS.replace("https://i/keys", "http://i/keys"), "auth.jwks_url: must begin with https://"),
        (TOKENS.replace("https://i/keys", "file:///etc/keys"), "auth.jwks_url: must begin with https://"),
        (TOKENS.replace("https://i/keys", "http://localhost.evil.example/"), "auth.jwks_url: must begin with https://"),
        (TOKENS.replace("https://i/keys", "https://i:x/"), "auth.jwks_url: must begin with https://"),
        (TOKENS + 'jwt_algorithms = ["HS256"]', "auth.jwt_algorithms"),
        (TOKENS + 'jwt_algorithms = ["none"]', "auth.jwt_algorithms"),
        (TOKENS + "jwt_algorithms = []", "auth.jwt_algorithms: must name one at least"),
        (TOKENS + "jwt_leeway = 3600", "auth.jwt_leeway"),
        (TOKENS + 'jwt_tenant = "a b"', "auth.jwt_tenant: must be 1 to 128"),
        (TOKENS + 'jwt_scopes = ["root"]', "auth.jwt_scopes"),
        ('metrics = "closed"', "auth.metrics"),
        ("bootstrap_key_files = 1", "auth.bootstrap_key_files: unknown"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(text: str, wrong: str) -> None:
    found = problems(KEYS, {TOML: f"[auth]\n{text}"})
    assert any(wrong in line for line in found), found


def test_a_url_of_this_machine_may_be_plain() -> None:
    for host in ("127.0.0.1:8080", "localhost", "[::1]:80"):
        assert load(KEYS, {TOML: "[auth]\n" + TOKENS.replace("https://i/keys", f"http://{host}/keys")}).auth.jwks_url
