"""Workspaces: what loads, and one line for everything that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.domain.agents import Agent, Budget, Caching, Limits, Variable, versioned
from app.domain.errors import ConfigError
from app.domain.screening import Screening
from app.domain.tools import RISKS
from app.workspace.load import SHIPPED
from app.workspace.scaffold import scaffold
from tests.workspace.folders import CHAT, TOOL, loaded, problems, write


def test_the_shipped_workspace() -> None:
    workspace = loaded(SHIPPED)
    assert workspace.settings.default_agent == "assistant"
    assert {a.name: (a.kind, [t.name for t in a.tools]) for a in workspace.agents.values()} == {
        "assistant": ("react", ["calculator", "clock"]),
        "chat": ("chat", []),
    }
    assert workspace.agents["assistant"].prompt == "assistant@v1"
    assert workspace.agents["chat"].limits == Limits()
    assert [tool.spec.name for tool in workspace.tools] == ["calculator", "clock", "http_fetch"]
    assert loaded(SHIPPED).agents == workspace.agents


def test_a_scaffold_loads_and_overwrites_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "workspace"
    written = scaffold(target)
    assert sorted(p for p in target.rglob("*") if p.is_file()) == sorted(written)
    workspace = loaded(target)
    assert workspace.agents.keys() == {"assistant", "chat", "orders"}
    assert workspace.agents["assistant"] == loaded(SHIPPED).agents["assistant"]
    orders = workspace.agents["orders"]
    assert all(RISKS.index(tool.risk) <= RISKS.index(orders.auto_approve) for tool in orders.tools)

    written[0].write_text("mine")
    written[1].unlink()
    with pytest.raises(ConfigError) as caught:
        scaffold(target)
    assert [p.where for p in caught.value.problems] == [str(path) for path in written if path != written[1]]
    assert written[0].read_text() == "mine"
    assert not written[1].exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        scaffold(tmp_path / "file" / "w")


async def test_the_example_tools_work(tmp_path: Path) -> None:
    scaffold(tmp_path)
    find, cancel = [
        tool.function for tool in loaded(tmp_path).tools if tool.spec.name in ("find_order", "cancel_order")
    ]
    assert (await find("A-1002"))["status"] == "open"
    for _ in range(2):
        assert (await cancel("A-1002", "late"))["status"] == "cancelled"
    with pytest.raises(ValueError, match="is shipped"):
        await cancel("A-1001")
    with pytest.raises(ValueError, match="no order"):
        await find("x")


def test_every_key_of_an_agent(tmp_path: Path) -> None:
    text = (
        "description: d\nkind: react\nprompt: p@v1\nmodel: fast\ntemperature: 0.2\nmax_output_tokens: 100\nreasoning: low\n"
        "tools: [clock, mine]\nlimits: {iterations: 3, timeout: 4}\nconcurrency: 7\nauto_approve: critical\noutput_schema: {type: object}\n"
    )
    prompt = (
        "latest: v1\nversions:\n  v1: {template: 'Hi {{who}}', variables: {who: {default: you}}}\n"
        "  v2: {template: Ho, model: default, temperature: 1}\n"
    )
    folder = write(
        tmp_path,
        steadyhand='default_agent = "a"\n[models.fast]\nchain = ["offline/x"]',
        agents__a=text,
        agents__b=text.replace("v1", "v2"),
        prompts__p=prompt,
        tools__my=TOOL.format(name="mine"),
    )
    workspace = loaded(folder)
    a, b = workspace.agents["a"], workspace.agents["b"]
    assert (a.name, a.description, a.kind, a.instructions, a.prompt) == ("a", "d", "react", "Hi {{who}}", "p@v1")
    assert a.variables == {"who": Variable(default="you")}
    assert (a.model, a.temperature, a.max_output_tokens, a.reasoning) == ("fast", 0.2, 100, "low")
    assert [spec.name for spec in a.tools] == ["clock", "mine"]
    assert (a.limits, a.auto_approve, a.output_schema) == (
        Limits(iterations=3, timeout=4.0),
        "critical",
        {"type": "object"},
    )
    assert a.concurrency == 7
    assert (b.model, b.temperature, b.instructions) == ("default", 1.0, "Ho")
    assert a == versioned(msgspec.structs.replace(a, version=""))
    assert a.version != b.version


def test_how_much_of_a_conversation_an_agent_sends(tmp_path: Path) -> None:
    plain, text = "instructions: hello\n", "instructions: hello\ncontext: {tokens: %s}\n"
    folder = write(tmp_path, agents__assistant=plain, agents__a=text % 2000, agents__b=text % 100_000)
    agents = loaded(folder).agents
    assert (agents["a"].budget, agents["a"].context) == (Budget(tokens=2000, tool_result=20_000),) * 2
    assert agents["assistant"].budget == agents["b"].budget == Budget(tokens=100_000, tool_result=20_000)
    assert agents["assistant"].context is agents["b"].context is msgspec.UNSET


def test_an_agents_own_reply_makes_a_version_and_none_keeps_it(tmp_path: Path) -> None:
    plain = loaded(write(tmp_path / "a", agents__assistant=CHAT)).agents["assistant"]
    replies = loaded(write(tmp_path / "b", agents__assistant=CHAT + "fallback_reply: Sorry.\n")).agents["assistant"]
    assert (plain.fallback_reply, replies.fallback_reply) == (msgspec.UNSET, "Sorry.")
    assert b"fallback_reply" not in msgspec.json.encode(plain)
    assert plain.version != replies.version
    assert msgspec.json.decode(msgspec.json.encode(replies), type=Agent) == replies


def test_a_cache_makes_a_version_and_none_keeps_it(tmp_path: Path) -> None:
    plain = loaded(write(tmp_path / "a", agents__assistant=CHAT)).agents["assistant"]
    exact = loaded(write(tmp_path / "b", agents__assistant=CHAT + "cache: {ttl: 3600}\n")).agents["assistant"]
    folder = write(tmp_path / "c", agents__assistant=CHAT + "cache: {ttl: 60, semantic: {}}\n")
    (folder / "steadyhand.toml").write_text('[embeddings]\nprovider = "offline"\n')
    semantic = loaded(folder).agents["assistant"]
    assert plain.cache is msgspec.UNSET
    assert b"cache" not in msgspec.json.encode(plain)
    assert (exact.cache, semantic.cache) == (Caching(ttl=3600), Caching(ttl=60, threshold=0.85))
    assert len({plain.version, exact.version, semantic.version}) == 3
    for agent in (exact, semantic):
        assert msgspec.json.decode(msgspec.json.encode(agent), type=Agent) == agent


def test_an_agent_needs_instructions_only(tmp_path: Path) -> None:
    agent = loaded(write(tmp_path, agents__assistant="instructions: hello\n")).agents["assistant"]
    assert (agent.description, agent.kind, agent.instructions, agent.tools) == ("", "react", "hello", ())


@pytest.mark.parametrize(
    ("agent", "line"),
    [
        ("description: d\n", "agents/x.yaml:1: prompt: missing: an agent needs prompt (a file of prompts/) or instructions (a text)"),
        ("description: 5\nkind: chat\ninstructions: i\n", "agents/x.yaml:1: description: expected str, got int"),
        ("description: d\nkind: chat\n", "agents/x.yaml:1: prompt: missing: an agent needs prompt (a file of prompts/) or instructions (a text)"),
        (CHAT + "prompt: p\n", "agents/x.yaml:3: instructions: an agent has either prompt or instructions, not both"),
        (CHAT.replace("hello", "'{{a}}'"), "agents/x.yaml:3: instructions: {{a}} is a variable: only a prompt file can declare those"),
        (CHAT.replace("hello", "''"), "agents/x.yaml:3: instructions: expected str of length >= 1"),
        (CHAT.replace("hello", "7"), "agents/x.yaml:3: instructions: expected str | null, got int"),
        (CHAT.replace("chat", "team"), "agents/x.yaml:2: kind: team is not available in this version"),
        (CHAT.replace("chat", "crew"), "agents/x.yaml:2: kind: must be one of chat, react"),
        (CHAT + "tools: [clock]\n", "agents/x.yaml:4: tools: an agent of kind chat has none; use kind react"),
        (CHAT.replace("chat", "react") + "tools:\n- clock\n- clock\n", "agents/x.yaml:6: tools.1: clock stands twice"),
        (CHAT.replace("chat", "react") + "tools:\n- clok\n", "agents/x.yaml:5: tools.0: there is no tool clok; known: calculator, clock, http_fetch"),
        (CHAT.replace("chat", "react") + "tools: clock\n", "agents/x.yaml:4: tools: must be a list of names, or of tables with a name"),
        (CHAT + "model: fast\n", "agents/x.yaml:4: model: there is no route fast; known: default"),
        (CHAT + "temperature: 2.5\n", "agents/x.yaml:4: temperature: expected float <= 2.0"),
        (CHAT + "concurrency: 0\n", "agents/x.yaml:4: concurrency: expected int >= 1"),
        (CHAT + "max_output_tokens: 0\n", "agents/x.yaml:4: max_output_tokens: expected int >= 1"),
        (CHAT + "reasoning: max\n", "agents/x.yaml:4: reasoning: must be one of low, medium, high"),
        (CHAT + "auto_approve: never\n", "agents/x.yaml:4: auto_approve: must be one of low, medium, high, critical"),
        (CHAT + "limits:\n  iterations: 51\n", "agents/x.yaml:5: limits.iterations: expected int <= 50"),
        (CHAT + "limits: {timeout: 0}\n", "agents/x.yaml:4: limits.timeout: expected float > 0.0"),
        (CHAT + "limits: {tokens: 0}\n", "agents/x.yaml:4: limits.tokens: expected int >= 1"),
        (CHAT + "limits: {cost_usd: 0}\n", "agents/x.yaml:4: limits.cost_usd: expected float > 0.0"),
        (CHAT + "limits: 5\n", "agents/x.yaml:4: limits: must be a table, not int"),
        (CHAT + "fallback_reply: ''\n", "agents/x.yaml:4: fallback_reply: expected str of length >= 1"),
        (CHAT + "fallback_reply: ' '\n", "agents/x.yaml:4: fallback_reply: says nothing"),
        (CHAT + "fallback_reply: 7\n", "agents/x.yaml:4: fallback_reply: expected str | null, got int"),
        (CHAT + "fallback_reply: sorry\noutput_schema: {type: object}\n", "agents/x.yaml:4: fallback_reply: does not fit output_schema: it is not valid JSON (JSON is malformed: invalid character (byte 0))"),
        (CHAT + "fallback_reply: '{\"a\": 1}'\noutput_schema: {properties: {a: {type: string}}}\n", "agents/x.yaml:4: fallback_reply: does not fit output_schema: $.a: 1 is not of type 'string'"),
        (CHAT + "fallback_reply: sorry\noutput_schema: {type: objec}\n", "agents/x.yaml:5: output_schema.type: 'objec' is not valid under any of the given schemas"),
        (CHAT + "context: {tokens: 999}\n", "agents/x.yaml:4: context.tokens: expected int >= 1000"),
        (CHAT + "context: {summary: fast}\n", "agents/x.yaml:4: context.summary: there is no route fast; known: default"),
        (CHAT + "context: {tool_result: 5}\n", "agents/x.yaml:4: context.tool_result: expected int >= 200"),
        (CHAT + "cache: {ttl: 0}\n", "agents/x.yaml:4: cache.ttl: expected float > 0.0"),
        (CHAT + "cache: {}\n", "agents/x.yaml:4: cache.ttl: missing: the seconds that an answer is given again"),
        (CHAT + "cache: 60\n", "agents/x.yaml:4: cache: expected object | null, got int"),
        (CHAT + "cache: {ttl: 5, semantic: {threshold: 1.5}}\n", "agents/x.yaml:4: cache.semantic.threshold: expected float <= 1.0"),
        (CHAT + "cache: {ttl: 5, semantic: {}}\n", "agents/x.yaml:4: cache.semantic: needs [embeddings] in steadyhand.toml, which says who makes the vectors"),
        (CHAT + "temprature: 1\n", "agents/x.yaml:4: temprature: unknown; did you mean temperature?"),
        (CHAT + "output_schema: text\n", "agents/x.yaml:4: output_schema: expected object | null, got str"),
        (CHAT + "output_schema:\n  properties:\n    a: {type: strin}\n", "agents/x.yaml:6: output_schema.properties.a.type: 'strin' is not valid under any of the given schemas"),
        (CHAT + "output_schema:\n  pattern: '['\n", "agents/x.yaml:5: output_schema.pattern: '[' is not a 'regex'"),
        (CHAT + "output_schema:\n  items:\n    - $ref: x\n", "agents/x.yaml:5: output_schema.items: [{'$ref': 'x'}] is not of type 'object', 'boolean'"),
        (CHAT + "output_schema:\n  anyOf:\n  - $ref: '#/$defs/x'\n", "agents/x.yaml:6: output_schema.anyOf.0.$ref: #/$defs/x leads to no schema within this one"),
        (CHAT + "output_schema: {$ref: 'http://localhost/x'}\n", "agents/x.yaml:4: output_schema.$ref: http://localhost/x leads to no schema within this one"),
        (CHAT + "output_schema: {required: [a], $ref: '#/required/b'}\n", "agents/x.yaml:4: output_schema.$ref: #/required/b leads to no schema within this one"),
        (CHAT.replace("instructions: hello", "prompt: q"), "agents/x.yaml:3: prompt: there is no prompts/q.yaml"),
        (CHAT.replace("instructions: hello", "prompt: p@v7"), "agents/x.yaml:3: prompt: prompt p has no version 'v7'; it has v1"),
        ("- a\n", "agents/x.yaml:1: the file: must be a table, not a list"),
        ("a: [\n", "agents/x.yaml:2: not valid YAML: while parsing a flow node, expected the node content, but found '<stream end>'"),
    ],
)  # fmt: skip
def test_agents_that_do_not_load(tmp_path: Path, agent: str, line: str) -> None:
    folder = write(tmp_path, agents__x=agent, prompts__p="versions: {v1: {template: t}}")
    found = problems(folder)
    assert line in found
    if "missing" not in line:
        assert found == [line]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"$defs": {"a": {"type": "object", "properties": {"$ref": {"type": "string"}}}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"$anchor": "here"}}, "$ref": "#here"},
    ],
)
def test_schemas_that_are_fine(tmp_path: Path, schema: dict[str, Any]) -> None:
    folder = write(tmp_path, agents__assistant=CHAT + "output_schema: " + msgspec.json.encode(schema).decode())
    assert loaded(folder).agents["assistant"].output_schema == schema


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("versions: {}\n", "prompts/p.yaml:1: versions: has no version"),
        ("version: {}\n", "prompts/p.yaml:1: version: unknown; did you mean versions?"),
        ("versions:\n  v1: {template: ''}\n", "prompts/p.yaml:2: versions.v1.template: expected str of length >= 1"),
        ("versions:\n  v1: {templte: x}\n", "prompts/p.yaml:2: versions.v1.templte: unknown; did you mean versions.v1.template?"),
        ("versions:\n  v1:\n    template: |\n      x\n      {{a}}\n", "prompts/p.yaml:3: versions.v1.template: {{a}} is not declared in variables"),
        ("versions:\n  v1:\n    template: x\n    variables:\n    - a\n", "prompts/p.yaml:4: versions.v1.variables.a: a is declared but {{a}} is not in the template"),
        ("versions:\n  v1:\n    template: '{{a}}'\n    variables:\n      a:\n        type: list\n", "prompts/p.yaml:6: versions.v1.variables.a.type: must be one of string, integer, number, boolean"),
        ("versions:\n  v1:\n    template: x\n    model: fast\n", "prompts/p.yaml:4: versions.v1.model: there is no route fast"),
        ("versions:\n  v1: {template: x}\nlatest: v2\n", "prompts/p.yaml:3: latest: v2 is none of the versions: v1"),
    ],
)  # fmt: skip
def test_prompts_that_do_not_load(tmp_path: Path, prompt: str, line: str) -> None:
    agent = CHAT.replace("instructions: hello", "prompt: p@v1")  # its prompt is broken, which is said once
    found = problems(write(tmp_path, agents__x=agent, prompts__p=prompt))
    assert line in found
    assert {text.split(":")[0] for text in found} == {"prompts/p.yaml"}


def test_names_and_folders(tmp_path: Path) -> None:
    folder = write(tmp_path, agents__Bad=CHAT, agents__assistant=CHAT)
    (folder / "agents" / "short.yml").write_text(CHAT)
    (folder / "agents" / "folder.yaml").mkdir()
    (folder / "agents" / "gone.yaml").symlink_to(folder / "nowhere")
    (folder / "agents" / "README.md").write_text("ignored")
    assert problems(folder) == [
        "agents/Bad.yaml:1: the file: an agent's file is named by 1 to 64 of a-z 0-9 _ -, beginning with a letter or a digit",
        "agents/folder.yaml: cannot be read: it is not a file",
        "agents/gone.yaml: cannot be read: it is not a file",
        "agents/short.yml: file name: must end in .yaml",
    ]
    assert problems(tmp_path / "none") == [
        f"{tmp_path}/none: workspace: there is no such folder".replace(f"{tmp_path}/none/", "")
    ]


def test_the_default_agent_exists(tmp_path: Path) -> None:
    folder = write(tmp_path, steadyhand='\ndefault_agent = "b"')
    assert problems(folder) == ["steadyhand.toml: default_agent: there is no agents/b.yaml; known: assistant"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert problems(empty) == ["steadyhand.toml: default_agent: there is no agents/assistant.yaml; known: none"]


def test_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        steadyhand="[server]\nport = 'x'",
        agents__a="kind: chat",
        agents__b="a: [",
        prompts__p="versions: {}",
        tools__t="1 / 0",
    )
    files = [text.split(":")[0] for text in problems(folder)]
    assert list(dict.fromkeys(files)) == [
        "steadyhand.toml",
        "tools/t.py",
        "prompts/p.yaml",
        "agents/a.yaml",
        "agents/b.yaml",
    ]


def test_what_an_agent_looks_for_is_its_own_or_the_settings(tmp_path: Path) -> None:
    """Defaults make no version; every agent has what [safety] says, and its file has the last word."""
    plain = loaded(write(tmp_path / "a")).agents["assistant"]
    assert plain.safety is msgspec.UNSET
    assert plain.screening == Screening()
    folder = write(
        tmp_path / "b",
        agents__own=CHAT + "safety: {pii: 'off', output: pii, max_input: 5, link_hosts: [b.org]}\n",
        agents__tools=CHAT.replace("chat", "react") + "tools: [clock, calculator]\nsafety: {reveal: [clock]}\n",
        steadyhand='[safety]\npii = "redact"\nlink_hosts = ["a.org"]\nmax_input = 50\n',
    )
    agents = loaded(folder).agents
    assert agents["assistant"].safety == Screening(pii="redact", max_input=50, link_hosts=("a.org",))
    assert agents["own"].safety == Screening(pii="off", output="pii", max_input=5, link_hosts=("b.org",))
    assert agents["tools"].screening.reveals("clock", "tainted") == "all"
    assert agents["tools"].screening.reveals("calculator", "clean") == "none"
    assert agents["assistant"].version != plain.version
    with_pii = loaded(write(tmp_path / "c"), {"APP_ENV": "test", "STEADYHAND__SAFETY__PII": "block"}).agents[
        "assistant"
    ]
    assert with_pii.screening.pii == "block"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("safety: {pii: maybe}\n", "safety.pii: "),
        ("safety: {max_input: 0}\n", "safety.max_input: expected int >= 1"),
        ("safety: {link_hosts: ['https://a.org']}\n", "safety.link_hosts"),
        ("safety: {reveal: [clock]}\n", "safety.reveal.0: clock is none of the agent's tools"),
        ("safety: {vault: on}\n", "safety.vault: unknown"),
    ],
)
def test_a_safety_that_is_none_stops_the_start(tmp_path: Path, written: str, problem: str) -> None:
    (said,) = problems(write(tmp_path, agents__x=CHAT + written))
    assert said.startswith("agents/x.yaml:4: ")
    assert problem in said
