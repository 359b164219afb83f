"""[server]: origins, proxies and the path that a proxy shows."""

from __future__ import annotations

import pytest

from app.settings import load
from tests.settings.reading import TOML, problems


def test_what_is_right_is_taken_as_written() -> None:
    text = """\
[server]
cors_origins = ["https://app.example.com", "http://localhost:3000", "http://[::1]:8080"]
trusted_proxies = ["10.0.0.0/8", "192.168.1.7", "2001:db8::/32"]
root_path = "/team/agents.v1"
read_timeout = 75
"""
    server = load({}, {TOML: text}).server
    assert server.cors_origins == ("https://app.example.com", "http://localhost:3000", "http://[::1]:8080")
    assert server.trusted_proxies == ("10.0.0.0/8", "192.168.1.7", "2001:db8::/32")
    assert (server.root_path, server.read_timeout) == ("/team/agents.v1", 75.0)
    environ = {"STEADYHAND__SERVER__CORS_ORIGINS": '["*"]', "STEADYHAND__SERVER__ROOT_PATH": "/x"}
    assert load(environ, {}).server.cors_origins == ("*",)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('cors_origins = ["https://App.example.com"]', "is not an origin"),
        ('cors_origins = ["https://app.example.com/"]', "is not an origin"),
        ('cors_origins = ["app.example.com"]', "is not an origin"),
        ('cors_origins = ["https://*.example.com"]', "is not an origin"),
        ('cors_origins = ["null"]', "is not an origin"),
        ('cors_origins = ["https://app.example.com:443"]', "browsers leave out :443"),
        ('cors_origins = ["http://app.example.com:80"]', "browsers leave out :80"),
        ('cors_origins = ["*", "https://app.example.com"]', "write it alone"),
        ('cors_origins = "*"', "xpected"),
        ('trusted_proxies = ["10.0.0.1/8"]', "has host bits set"),
        ('trusted_proxies = ["proxy.internal"]', "does not appear to be"),
        ('root_path = "/"', "is not a path"),
        ('root_path = "agents"', "is not a path"),
        ('root_path = "/agents/"', "is not a path"),
        ('root_path = "/a/../b"', "is not a path"),
        ('root_path = "/a b"', "is not a path"),
        ("read_timeout = 0", "read_timeout"),
    ],
)
def test_what_could_never_match_stops_the_start(line: str, why: str) -> None:
    [problem] = problems({}, {TOML: f"[server]\n{line}\n"})
    assert problem.startswith(f"{TOML}:2: server.")
    assert why in problem


@pytest.mark.parametrize(("name", "url"), [("DATABASE_URL", "postgresql://h/d"), ("REDIS_URL", "redis://h")])
def test_the_options_of_a_url_are_pairs(name: str, url: str) -> None:
    for good in ("?a=b", "?a=b&c=", "?a=%3F&c=d=e"):
        load({name: url + good}, {})
    for bad in ("?s3cret", "?a=b&s3cret", "?s3cret&a=b"):
        [problem] = problems({name: url + bad}, {})
        assert "cannot be read as a URL" in problem
        assert "s3cret" not in problem
