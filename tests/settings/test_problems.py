"""One error class a row, with its file and line or its variable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ConfigError
from app.settings import NOT_YET, load
from app.settings.options import Options
from tests.settings.reading import TOML, problems

FILE = """\
default_agent = 5
colour = "red"
[server]
port = 70000
prot = 1
# a comment
max_body = [
  1,
]
[worker]
concurrency = 0
drain = "long"
lease = 0.4
max_attempts = 0
[database]
pool_min = 30
url = "mysql://secret@h/d"
direct_url = 7
[providers.gw]
kind = "azure"
[providers.nokind]
base_url = "http://h/v1"
[providers."a/b"]
kind = "offline"
[providers.claude]
kind = "anthropic"
api = "chat"
base_url = "ftp://h"
[providers.offline]
api_key_env = "K"
[models.default]
chain = [
  "openai/x",
  "anthropic/y",
  "opnai/z",
  "nothing",
  "gw/fine",
]
hedge_after = 20
[models.fast]
chain = "openai/x"
idle_timeout = -1
[log]
level = "loud"
[breaker]
failures = 0
open_second = 1
[retention]
runs_days = 5
"""


def test_every_problem_of_a_file_at_once_with_its_line() -> None:
    assert sorted(problems({}, {"w/steadyhand.toml": FILE}), key=lambda line: int(line.split(":")[1])) == [
        "w/steadyhand.toml:1: default_agent: expected str, got int",
        "w/steadyhand.toml:2: colour: unknown; known here: default_agent, data_dir, server, database, redis, worker, limits, admission, safety, callbacks, log, breaker, providers, models, prices, auth, budgets, experiments, embeddings",
        "w/steadyhand.toml:4: server.port: expected int <= 65535",
        "w/steadyhand.toml:5: server.prot: unknown; did you mean server.port?",
        "w/steadyhand.toml:7: server.max_body: expected int, got array",
        "w/steadyhand.toml:11: worker.concurrency: expected int >= 1",
        "w/steadyhand.toml:12: worker.drain: expected float, got str",
        "w/steadyhand.toml:13: worker.lease: expected float >= 0.5",
        "w/steadyhand.toml:14: worker.max_attempts: expected int >= 1",
        "w/steadyhand.toml:16: database.pool_min: 30 is more than pool_max, which is 20",
        "w/steadyhand.toml:17: database.url: must begin with postgresql://",
        "w/steadyhand.toml:18: database.direct_url: expected str, got int",
        "w/steadyhand.toml:20: providers.gw.kind: must be one of openai, anthropic, offline",
        "w/steadyhand.toml:21: providers.nokind.kind: missing: openai, anthropic or offline",
        "w/steadyhand.toml:23: providers.a/b: a name is 1 to 64 of A-Z a-z 0-9 _ . -",
        "w/steadyhand.toml:27: providers.claude.api: is for kind openai only",
        "w/steadyhand.toml:28: providers.claude.base_url: must be an http:// or https:// URL",
        "w/steadyhand.toml:30: providers.offline.api_key_env: has no meaning for kind offline",
        "w/steadyhand.toml:32: models.default.chain: 'nothing' is not of the form provider/model",
        "w/steadyhand.toml:32: models.default.chain: openai/x needs the variable OPENAI_API_KEY, which is not set",
        "w/steadyhand.toml:32: models.default.chain: anthropic/y needs the variable ANTHROPIC_API_KEY, which is not set",
        "w/steadyhand.toml:32: models.default.chain: opnai/z names a provider that is not there; known: a/b, anthropic, claude, gw, nokind, offline, openai",
        "w/steadyhand.toml:39: models.default.hedge_after: 20 is not less than first_token_timeout, which is 20",
        "w/steadyhand.toml:41: models.fast.chain: expected array, got str",
        "w/steadyhand.toml:42: models.fast.idle_timeout: expected float > 0.0",
        "w/steadyhand.toml:44: log.level: must be one of debug, info, warning, error",
        "w/steadyhand.toml:46: breaker.failures: expected int >= 1",
        "w/steadyhand.toml:47: breaker.open_second: unknown; did you mean breaker.open_seconds?",
        "w/steadyhand.toml:48: retention: not available in this version",
    ]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("STEADYHAND__SERVER__PORT", "many", "STEADYHAND__SERVER__PORT: STEADYHAND__SERVER__PORT: expected int"),
        ("STEADYHAND__CALLBACKS__TIMEOUT", "31", "STEADYHAND__CALLBACKS__TIMEOUT: STEADYHAND__CALLBACKS__TIMEOUT: expected float <= 30.0"),
        ("STEADYHAND__SERVER__PORT", "", "STEADYHAND__SERVER__PORT: STEADYHAND__SERVER__PORT: expected int"),
        (
            "STEADYHAND__SERVER__PROT",
            "1",
            "STEADYHAND__SERVER__PROT: STEADYHAND__SERVER__PROT: unknown; did you mean STEADYHAND__SERVER__PORT?",
        ),
        ("STEADYHAND__SERVER", "5", "STEADYHAND__SERVER: STEADYHAND__SERVER: must be a table, not int"),
        ("STEADYHAND__SERVER", "x", "STEADYHAND__SERVER: STEADYHAND__SERVER: a table is written as JSON: {…}"),
        ("STEADYHAND__SERVER", "[" * 5000, "STEADYHAND__SERVER: STEADYHAND__SERVER: a table is written as JSON: {…}"),
        ("STEADYHAND__SERVER", '{"port": "x"}', "STEADYHAND__SERVER: STEADYHAND__SERVER__PORT: expected int"),
        (
            "STEADYHAND__MODELS__DEFAULT__CHAIN",
            "openai/x",
            'STEADYHAND__MODELS__DEFAULT__CHAIN: STEADYHAND__MODELS__DEFAULT__CHAIN: a list is written as JSON: ["…"]',
        ),
        ("STEADYHAND__RETENTION__RUNS_DAYS", "9", "STEADYHAND__RETENTION__RUNS_DAYS: STEADYHAND__RETENTION: not available in this version"),
        ("STEADYHAND__MODELS__A__TIMEOUT", "nan", "STEADYHAND__MODELS__A__TIMEOUT: STEADYHAND__MODELS__A__TIMEOUT: expected float > 0.0"),
        ("STEADYHAND__SAFETY__FOUR_EYES", "two", "STEADYHAND__SAFETY__FOUR_EYES: STEADYHAND__SAFETY__FOUR_EYES: must be one of low, medium, high, critical"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: LOG_LEVEL: must be one of debug, info, warning, error"),
        ("DATABASE_URL", "sqlite://", "DATABASE_URL: database.url: must begin with postgresql://"),
        ("REDIS_URL", "http://h", "REDIS_URL: redis.url: must begin with redis://, rediss:// or unix://"),
        ("APP_ENV", "../x", "APP_ENV: cannot be a profile: use A-Z a-z 0-9 _ - only"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(name: str, value: str, line: str) -> None:
    assert problems({name: value}, {}) == [line]


def test_lines_of_keys_in_every_way_to_write_them() -> None:
    text = (
        """
server.hosd = '''
[worker]
concurrency = 0
'''
[ models . "default" ]  # comment
"chain" = [
    "offline/[worker]",
] # end
retries = 1
[worker]

drian = """
        + '"""'
        + """
[server]
"""
        + '"""'
        + """
[[extra]]
x = 1
[models]
b = { chain = [], retries = 2 }
c.retries = 3
"""
    )
    lines = [line.split(": unknown")[0] for line in problems({}, {TOML: text})]
    assert lines == [
        "steadyhand.toml:2: server.hosd",
        "steadyhand.toml:10: models.default.retries",
        "steadyhand.toml:19: models.b.retries",
        "steadyhand.toml:20: models.c.retries",
        "steadyhand.toml:13: worker.drian",
        "steadyhand.toml:16: extra",
    ]


def test_one_variable_in_two_spellings() -> None:
    mapping = {"STEADYHAND__SERVER__PORT": "1", "steadyhand__server__port": "2"}
    assert problems(mapping, {}) == [
        "steadyhand__server__port: steadyhand__server__port: is also set as STEADYHAND__SERVER__PORT, to another value"
    ]


@pytest.mark.parametrize("option", sorted(NOT_YET))
def test_documented_options_of_later_versions_are_refused_by_name(option: str) -> None:
    path = option.replace("*", "default").split(".")
    text = f"{path[-1]} = 1" if len(path) == 1 else f"[{'.'.join(path[:-1])}]\n{path[-1]} = 1"
    line = len(text.splitlines())
    assert problems({}, {TOML: text}) == [f"steadyhand.toml:{line}: {'.'.join(path)}: not available in this version"]
    assert problems({"STEADYHAND__" + "__".join(path).upper(): "1"}, {})[0].endswith("not available in this version")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a = 1\na = 2", 2, "Cannot overwrite"),
        ("[server]\nport =\n", 2, "Invalid value"),
        ("[server]\nport = 1\n[server]\n", 3, "Cannot declare"),
        ('x = """\nnever closed', 2, "Unterminated"),
        ("a = [" * 2000, 1, ""),
    ],
)
def test_broken_toml(text: str, line: int, why: str) -> None:
    (found,) = problems({}, {TOML: text})
    assert found.startswith(("steadyhand.toml:" + str(line) + ": not valid TOML", "steadyhand.toml: not valid TOML"))
    assert why in found


def test_a_broken_layer_does_not_hide_the_others() -> None:
    files = {TOML: "[server", "steadyhand.development.toml": "[server]\nx = 1"}
    assert [line.split(":")[0] for line in problems({"STEADYHAND__Y": "1"}, files)] == [
        "steadyhand.toml",
        "steadyhand.development.toml",
        "STEADYHAND__Y",
    ]


@given(
    st.dictionaries(st.text("abcSERVERPOTMODLSx_-é\udc80[{", max_size=30), st.text(max_size=30), max_size=6),
    st.text(max_size=80),
    st.text(max_size=80),
)
def test_no_environment_and_no_file_crashes(variables: dict[str, str], toml: str, dotenv: str) -> None:
    mapping = {f"STEADYHAND__{name}": value for name, value in variables.items()}
    try:
        load(mapping, {TOML: toml, ".env": dotenv})
    except ConfigError as error:
        found = error.problems
    else:
        found = ()
    assert all(problem.where and problem.what and problem.why for problem in found)
    unknown = [name for name in mapping if name.split("__")[1].lower() not in Options.__struct_fields__]
    assert len(found) >= len({name.upper() for name in unknown})
