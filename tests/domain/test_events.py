"""Stored events are read for ever: their Structs only grow. `python -m tests.domain.test_events` takes growth into the snapshot."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.domain import events as ev
from app.domain.messages import Message, Native, ToolCall

SNAPSHOT = Path(__file__).with_name("events.snapshot.json")
Schema = dict[str, Any]


def current() -> Schema:
    """Every event by its public name, and the schema of every Struct in it, prose aside."""
    named = ev.EVENTS | ev.DELTAS
    _, structs = msgspec.json.schema_components(named.values(), ref_template="{name}")
    return {"events": {name: struct.__name__ for name, struct in named.items()}, "structs": _bare(structs)}


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key not in ("title", "description", "default")}
    return [_bare(value) for value in schema] if isinstance(schema, list) else schema


def broken(old: Schema, new: Schema) -> list[str]:
    """What events written under `old` would lose under `new`."""
    wrong = [f"{name} is gone" for name, struct in old["events"].items() if new["events"].get(name) != struct]
    for name, struct in old["structs"].items():
        if name not in new["structs"]:
            wrong.append(f"{name} is gone")
            continue
        was, now = struct["properties"], new["structs"][name]["properties"]
        wrong += [f"{name}.{field} is gone" for field in was if field not in now]
        wrong += [f"{name}.{field} was retyped" for field in was if field in now and not _wider(was[field], now[field])]
        demanded = set(new["structs"][name].get("required", ())) - set(struct.get("required", ()))
        wrong += [f"{name}.{field} has no default" for field in sorted(demanded)]
    return wrong


def _wider(old: Any, new: Any) -> bool:
    """The same type, or one with more literals or alternatives."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(
            all(any(_wider(value, other) for other in new[key]) for value in old[key])
            if key in ("enum", "anyOf")
            else _wider(old[key], new[key])
            for key in old
        )
    return bool(old == new)


def test_events_only_ever_grow() -> None:
    snapshot = json.loads(SNAPSHOT.read_text())
    assert broken(snapshot, current()) == []
    assert snapshot == current(), "the events have grown: run `uv run python -m tests.domain.test_events`"


def _drop(schema: Schema) -> None:
    del schema["structs"]["RunStarted"]["properties"]["attempt"]


def _retype(schema: Schema) -> None:
    schema["structs"]["RunStarted"]["properties"]["attempt"] = {"type": "string"}


def _demand(schema: Schema) -> None:
    schema["structs"]["RunStarted"]["properties"]["new"] = {"type": "string"}
    schema["structs"]["RunStarted"]["required"].append("new")


def _narrow(schema: Schema) -> None:
    schema["structs"]["ToolFinished"]["properties"]["status"]["enum"].remove("denied")


def _forget(schema: Schema) -> None:
    del schema["events"]["run.started"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop, "RunStarted.attempt is gone"),
        (_retype, "RunStarted.attempt was retyped"),
        (_demand, "RunStarted.new has no default"),
        (_narrow, "ToolFinished.status was retyped"),
        (_forget, "run.started is gone"),
    ],
)
def test_a_change_that_old_events_do_not_survive_is_named(change: Callable[[Schema], None], said: str) -> None:
    changed = copy.deepcopy(current())
    change(changed)
    assert broken(current(), changed) == [said]


def test_growth_breaks_nothing() -> None:
    grown = copy.deepcopy(current())
    grown["structs"]["RunStarted"]["properties"]["new"] = {"type": "string"}
    grown["structs"]["ToolFinished"]["properties"]["status"]["enum"].append("lost")
    grown["structs"]["UsageRecorded"]["properties"]["cost_usd"]["anyOf"].append({"type": "string"})
    grown["events"]["run.forgotten"] = "RunForgotten"
    assert broken(current(), grown) == []


def test_every_event_has_a_name_and_comes_back_from_its_bytes() -> None:
    assert set(ev.EVENTS) == set(ev.NAMES.values())
    assert not set(ev.EVENTS) & set(ev.DELTAS)
    event = ev.ToolFinished(call_id="c", name="n", status="ok", result=msgspec.Raw(b'{"b":1,"a":"\\u00e9"}'))
    payload = msgspec.json.encode(event)
    again = ev.decode(ev.StoredEvent(seq=1, name=ev.NAMES[type(event)], payload=payload))
    assert msgspec.json.encode(again) == payload
    assert ev.decode(ev.StoredEvent(seq=1, name="run.of_the_future", payload=b"{}")) is None


def test_clients_never_see_a_providers_own_items() -> None:
    native = Native(api="anthropic-messages", items=msgspec.Raw(b'[{"signature":"secret"}]'))
    message = Message(
        id="m",
        role="assistant",
        content="hi",
        tool_calls=(ToolCall("c", "echo", "{}"),),
        stop="tool_calls",
        native=native,
    )
    seen = ev.visible(message)
    assert (seen.id, seen.role, seen.content, seen.stop) == ("m", "assistant", "hi", "tool_calls")
    assert seen.tool_calls == message.tool_calls
    assert b"secret" not in msgspec.json.encode(seen)


def _write() -> None:
    """Take growth into the snapshot; anything else is refused."""
    if SNAPSHOT.exists() and (wrong := broken(json.loads(SNAPSHOT.read_text()), current())):
        raise SystemExit("\n".join(wrong))
    SNAPSHOT.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    _write()
