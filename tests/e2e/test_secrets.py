"""Secrets are in no sink: each has a mark of its own, and everything that anybody can read is searched for all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import service as services
from tests.e2e.conftest import agent, files
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import fails, says
from tests.redis_server import RedisServer
from tests.telemetry.receiver import otlp_receiver

MARK = "c4n4ry"
PROMPT = "pr0mpt"
"""Content: in the answers to whoever asked, and in nothing that operators read."""
KEY = f"sk-{MARK}-key"
TOOL = f'''
from app.tools import tool


@tool(risk="low")
async def boom() -> str:
    """Fail loudly."""
    raise ConnectionError("cannot reach https://user:{MARK}-tool@inside.example/")
'''
MORE = """
[providers.proxied]
kind = "openai"
api = "chat"
base_url = "https://provider.invalid/v1"
api_key_env = "STAND_IN_KEY"
[models.proxied]
chain = ["proxied/model-1"]
"""


def environ_of(database: str, redis: str, collector: str) -> dict[str, str]:
    return {
        "DATABASE_URL": with_password(database),
        "REDIS_URL": redis.replace("://", f"://:{MARK}-redis@"),
        "STAND_IN_KEY": KEY,
        "OPENAI_API_KEY": f"sk-{MARK}-unused",
        "STEADYHAND_CALLBACK_SECRET": "whsec_" + "YzRuNHJ5LWNhbGxiYWNrLXNlY3JldC0wMDAx",
        "HTTPS_PROXY": f"http://user:{MARK}-proxy@127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {MARK}-otlp",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
    }


def with_password(database: str) -> str:
    """The test's server asks for none, and takes any."""
    return f"{database}{'&' if '?' in database else '?'}password={MARK}-database"


class Sinks:
    """What anybody can read, by name."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        self.texts[f"{name} {len(self.texts)}"] = text

    def clean(self, *marks: str) -> None:
        """None of the marks is in any of them."""
        found = {
            name: re.findall(rf".{{0,80}}{mark}.{{0,40}}", text)
            for name, text in self.texts.items()
            for mark in marks
            if mark in text
        }
        assert not found, "\n".join(f"{name}: {texts}" for name, texts in found.items())


async def answers_of(service: Service, provider: StandIn, sinks: Sinks) -> None:
    """Turns that succeed and turns that fail in every way, with secrets in the words of others."""
    echo = f"Incorrect API key provided: {KEY}"
    call = ("call-1", "boom", "{}")
    script: dict[str, tuple[Any, ...]] = {
        "x": (says("the second one"),),
        "fine": (says(f"hello {PROMPT}"),),
        "401": (fails(401, "authentication_error", echo),),
        "500": (fails(500, "server_error", echo),) * 3,
        "400": (fails(400, "", f"{echo}, said of {PROMPT}"),),
        "tool": (says(calls=[call]), says("it failed")),
    }
    for question, replies in script.items():
        provider.script(question, *replies)
    secret = {"Authorization": f"Bearer {MARK}-bearer", "X-API-Key": f"{MARK}-apikey", "Cookie": f"a={MARK}-cookie"}
    for name, question in (("watched", "fine"), ("watched", "401"), ("watched", "500"), ("watched", "400"), ("watched", "tool"), ("away", "x"), ("proxied", "x")):  # fmt: skip
        response = await service.post("/chat", {"message": question, "agent": name}, **secret)
        assert response.status_code in (200, 502, 503), response.text
        if question not in ("fine", "tool"):
            sinks.add(f"{name} {question}", response.text + repr(response.headers))
            run_id = response.json()["run_id"]
            sinks.add("events", json.dumps(await service.events(run_id)))
            sinks.add("run", (await service.get(f"/v1/runs/{run_id}")).text)
            sinks.add("steps", (await service.get(f"/v1/runs/{run_id}/steps")).text)
    for path in ("/chat", "/v1/nothing"):
        broken = await service.client.post(
            path, content=f'{{"message": "{MARK}-body'.encode(), headers=secret | {"Content-Type": "application/json"}
        )
        sinks.add("problem", broken.text)
    for path in ("/readiness", "/metrics", "/v1/models", "/agents", "/openapi.json", "/v1/tools", "/v1/usage"):
        sinks.add(path, (await service.get(path, **secret)).text)


@pytest.mark.long
async def test_no_sink_of_a_running_service_has_a_secret(
    tmp_path: Path, database: str, own_provider: StandIn, own_redis: RedisServer
) -> None:
    sinks = Sinks()
    found = files(own_provider.url)
    found["steadyhand.toml"] += MORE
    found["tools/boom.py"] = TOOL
    for name, model in (("proxied", "proxied"), ("watched", "chat")):
        found[f"agents/{name}.yaml"] = agent(model).replace("launch_rocket]", "launch_rocket, boom]")
    services.workspace(tmp_path, found)
    async with otlp_receiver() as collector:
        environ = environ_of(database, own_redis.url, collector.http_endpoint)
        async with services.serve(tmp_path, environ=environ) as service:
            await answers_of(service, own_provider, sinks)
            sinks.add("banner", service.banner)
            for command in (
                ("doctor",),
                ("doctor", "--json"),
                ("validate",),
                ("validate", "--json"),
                ("usage", "--json"),
                ("migrate", "--check"),
            ):
                _, out, err = await services.run(tmp_path, *command, environ=environ)
                sinks.add(" ".join(command), out + err)
            await collector.wait(lambda spans: sum(span.name == "POST /chat" for span in spans) >= 7)
        sinks.add("logs", service.stderr)
        sinks.add("spans", "\n".join(repr(span) for span in collector.spans))
    assert len(service.stderr) > 1000
    sinks.clean(MARK, "YzRuNHJ5")
    answers = ("watched", "away", "proxied", "events", "run", "steps", "problem")
    sinks.texts = {name: text for name, text in sinks.texts.items() if not name.startswith(answers)}
    assert len(sinks.texts) > 12
    sinks.clean(PROMPT)


DSN = "postgresql://user:{}@127.0.0.1:1/db"
BROKEN: dict[str, dict[str, str]] = {
    "the database is away": {"DATABASE_URL": DSN.format(MARK)},
    "a password that a URL cannot hold so": {"DATABASE_URL": DSN.format(f"{MARK}/x#{MARK}?{MARK}")},
    "a password with a colon and an @": {"DATABASE_URL": DSN.format(f"{MARK}:{MARK}@{MARK}")},
    "a password with a bracket": {"DATABASE_URL": DSN.format(f"[{MARK}")},
    "a password with a percent sign": {"DATABASE_URL": DSN.format(f"%zz{MARK}")},
    "another database": {"DATABASE_URL": f"mysql://user:{MARK}@h/db"},
    "no URL": {"DATABASE_URL": f"host=h password={MARK}"},
    "a port that is none": {"DATABASE_URL": f"postgresql://user:{MARK}@127.0.0.1:{MARK}/db"},
    "an unknown option": {"DATABASE_URL": DSN.format(MARK) + f"?sslmode={MARK}&target_session_attrs={MARK}"},
    "a word in the place of an option": {"DATABASE_URL": DSN.format("x") + f"?{MARK}"},
    "an option that is none": {"DATABASE_URL": DSN.format("x") + f"?sslmode=require&ssl_min_protocol_version={MARK}"},
    "Redis is away": {"REDIS_URL": f"redis://user:{MARK}@127.0.0.1:1/0"},
    "a password of Redis that a URL cannot hold so": {"REDIS_URL": f"redis://:{MARK}/{MARK}#{MARK}@127.0.0.1:1/0"},
    "a port of Redis that is none": {"REDIS_URL": f"redis://:{MARK}@h:{MARK}/0"},
    "a database of Redis that is none": {"REDIS_URL": f"redis://:{MARK}@127.0.0.1:1/{MARK}?db={MARK}"},
    "another server": {"REDIS_URL": f"memcached://:{MARK}@h"},
    "a user in a base URL": {"OPENAI_BASE_URL": f"http://user:{MARK}@127.0.0.1:1/v1"},
    "no base URL": {"ANTHROPIC_BASE_URL": f"ftp://user:{MARK}@127.0.0.1:1/v1"},
    "a key in the place of its name": {"STEADYHAND__PROVIDERS__OPENAI__API_KEY_ENV": f"sk-{MARK}", "STEADYHAND__MODELS__DEFAULT__CHAIN": '["openai/m"]'},
    "a secret in the place of its name": {"STEADYHAND__CALLBACKS__SECRET_ENV": f"whsec_{MARK}/="},
    "a key that is none": {"OPENAI_API_KEY": f"{MARK}\u2603", "STEADYHAND__MODELS__DEFAULT__CHAIN": '["openai/m"]'},
    "a key under a name that there is not": {"STEADYHAND__PROVIDERS__OPENAI__API_KEY": MARK},
    "a table that is none": {"STEADYHAND__PROVIDERS": f'{{"openai": "{MARK}"'},
    "a callback secret that is none": {"STEADYHAND_CALLBACK_SECRET": f"whsec_{MARK}!"},
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", BROKEN)
async def test_no_command_says_what_is_wrong_with_a_secret_in_its_words(tmp_path: Path, name: str) -> None:
    sinks, environ = Sinks(), {"DATABASE_URL": DSN.format("x"), "LOG_LEVEL": "debug"} | BROKEN[name]
    for command in (("doctor", "--json"), ("serve", "--port", "0")):
        code, out, err = await services.run(tmp_path, *command, environ=environ)
        sinks.add(" ".join(command), out + err)
        assert code == 1
        assert "Traceback" not in out + err, err
    sinks.clean(MARK)


@pytest.mark.long
async def test_a_secret_in_a_file_of_settings_is_not_repeated(tmp_path: Path) -> None:
    sinks = Sinks()
    text = f"""\
[providers.openai]
api_key = "{MARK}"
api_key_env = "{MARK}-1"
[database]
url = "mysql://u:{MARK}@h/d"
direct_url = 7
[redis]
url = "http://:{MARK}@h"
[providers.gw]
kind = "openai"
base_url = "{MARK}:x@h"
[models.default]
chain = ["openai/m", "gw/m"]
"""
    services.workspace(
        tmp_path, {"steadyhand.toml": text, "agents/assistant.yaml": "description: x\nkind: chat\ninstructions: x\n"}
    )
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY='{MARK}\n{MARK} = 5\nSTEADYHAND__REDIS__PASSWORD={MARK}\n")
    for command in (("validate",), ("validate", "--json"), ("doctor",), ("doctor", "--json"), ("serve",)):
        code, out, err = await services.run(tmp_path, *command)
        assert code == 1
        sinks.add(" ".join(command), out + err)
    sinks.clean(MARK)


LEAK = """
import atexit
import logging
import os

atexit.register(lambda: logging.getLogger("tool").warning("the key is %s.", os.environ["OPENAI_API_KEY"]))
"""


@pytest.mark.parametrize("command", [("batch", "items"), ("chat",)])
async def test_the_last_net_is_under_commands_that_have_a_service_of_their_own(
    tmp_path: Path, database: str, command: tuple[str, ...]
) -> None:
    agent = "description: x\nkind: chat\ninstructions: x\n"
    settings = 'default_agent = "plain"\n[models.default]\nchain = ["offline/offline"]\n'
    services.workspace(
        tmp_path,
        {"steadyhand.toml": settings, "agents/plain.yaml": agent, "tools/leak.py": LEAK},
    )
    (tmp_path / "items").write_text('{"input": 1}\n')
    environ = {"DATABASE_URL": database, "OPENAI_API_KEY": f"sk-{MARK}"}
    code, out, err = await services.run(tmp_path, *command, environ=environ)
    assert code == 0, err
    assert "the key is ***." in err
    assert MARK not in out + err
