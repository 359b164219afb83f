"""What an agent's file may say of a tool, and what is wrong with what it says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from app.domain.agents import Agent
from app.domain.tool_policy import Caps, Rule, Spend, ToolPolicy
from tests.workspace.folders import loaded, problems, write

PAY = (
    "from app.tools import tool\n\n@tool(risk='high')\nasync def pay(to: str, amount: float, note: str = '') -> str:\n"
    "    'Pays.'\n    return ''\n"
)
AGENT = "instructions: hello\ntools:\n"


def tools_of(folder: Path, text: str) -> Agent:
    return loaded(write(folder, agents__assistant=AGENT + text, tools__pay=PAY)).agents["assistant"]


def test_every_key_of_a_tool(tmp_path: Path) -> None:
    agent = tools_of(
        tmp_path,
        "- clock\n- name: pay\n  risk: critical\n  when_tainted: deny\n  scope: tool:payments\n"
        "  allow: {to: {one_of: [landlord, power]}, amount: {minimum: 1, maximum: 500}, note: {like: ['ref *']}}\n"
        "  caps: {calls_per_run: 2, calls: 10, spend: {argument: amount, most: 1000}, window: 3600, per: tenant}\n"
        "- {name: http_fetch, allow: {url: {hosts: [example.org, '*.example.org']}}}\n",
    )
    clock, pay, fetch = agent.tools
    assert clock.policy is msgspec.UNSET
    assert (clock.own_words, pay.own_words, fetch.own_words) == (True, False, False)
    assert (pay.risk, pay.rules) == (
        "critical",
        ToolPolicy(
            when_tainted="deny",
            scope="tool:payments",
            allow={
                "to": Rule(one_of=("landlord", "power")),
                "amount": Rule(minimum=1, maximum=500),
                "note": Rule(like=("ref *",)),
            },
            caps=Caps(calls_per_run=2, calls=10, spend=Spend(argument="amount", most=1000), window=3600, per="tenant"),
        ),
    )
    assert fetch.rules == ToolPolicy(allow={"url": Rule(hosts=("example.org", "*.example.org"))})
    assert agent.scopes == ("tool:payments",)
    assert msgspec.json.decode(msgspec.json.encode(agent), type=Agent) == agent


def test_a_table_that_says_nothing_more_than_a_name_makes_no_other_version(tmp_path: Path) -> None:
    plain = tools_of(tmp_path / "a", "- clock\n- pay\n")
    table = tools_of(tmp_path / "b", "- {name: clock}\n- {name: pay, risk: high, when_tainted: approve}\n")
    other = tools_of(tmp_path / "c", "- clock\n- {name: pay, when_tainted: allow}\n")
    assert plain == table
    assert other.version != plain.version
    assert b"policy" not in msgspec.json.encode(plain)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- {risk: low}\n", "agents/assistant.yaml:3: tools.0.name: missing"),
        ("- 5\n", "agents/assistant.yaml:3: tools.0: must be a name, or a table with a name"),
        ("- [pay]\n", "agents/assistant.yaml:3: tools.0: must be a name, or a table with a name"),
        ("- clock\n- name: pay\n  risks: low\n", "agents/assistant.yaml:5: tools.1.risks: unknown; did you mean tools.1.risk?"),
        ("- name: pay\n  risk: none\n", "agents/assistant.yaml:4: tools.0.risk: must be one of low, medium, high, critical"),
        ("- name: pay\n  when_tainted: always\n", "agents/assistant.yaml:4: tools.0.when_tainted: must be one of approve, allow, deny"),
        ("- name: pay\n  scope: admin\n", "agents/assistant.yaml:4: tools.0.scope: 'admin' must be tool: and 1 to 64 of a-z 0-9 _ . -"),
        ("- name: pay\n  allow: {whom: {one_of: [x]}}\n", "agents/assistant.yaml:4: tools.0.allow.whom: pay has no argument whom; known: to, amount, note"),
        ("- name: pay\n  allow: {to: {}}\n", "agents/assistant.yaml:4: tools.0.allow.to: allows nothing in particular: give hosts, under, minimum, maximum, one_of or like"),
        ("- name: pay\n  allow:\n    to: {host: [x]}\n", "agents/assistant.yaml:5: tools.0.allow.to.host: unknown; did you mean tools.0.allow.to.hosts?"),
        ("- name: pay\n  allow: {to: {hosts: ['https://x']}}\n", "agents/assistant.yaml:4: tools.0.allow.to: 'https://x' is no host: write a name in lower case (other scripts as xn--…), *.name or name:port"),
        ("- name: pay\n  caps: {}\n", "agents/assistant.yaml:4: tools.0.caps: caps nothing: give calls_per_run, calls or spend"),
        ("- name: pay\n  caps: {calls: -1}\n", "agents/assistant.yaml:4: tools.0.caps.calls: expected int >= 0"),
        ("- name: pay\n  caps: {calls: 1, window: 0}\n", "agents/assistant.yaml:4: tools.0.caps.window: expected float >= 1.0"),
        ("- name: pay\n  caps: {spend: {argument: price, most: 1}}\n", "agents/assistant.yaml:4: tools.0.caps.spend.argument: pay has no argument price; known: to, amount, note"),
        ("- name: pay\n  caps: {spend: {argument: amount}}\n", "agents/assistant.yaml:4: tools.0.caps.spend.most: missing"),
        ("- {name: pai}\n", "agents/assistant.yaml:3: tools.0: there is no tool pai; known: calculator, clock, http_fetch, pay"),
        ("- pay\n- {name: pay, risk: low}\n", "agents/assistant.yaml:4: tools.1: pay stands twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_tool(tmp_path: Path, text: str, line: str) -> None:
    assert line in problems(write(tmp_path, agents__assistant=AGENT + text, tools__pay=PAY))
