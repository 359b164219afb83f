"""The key for a service that runs elsewhere."""

from __future__ import annotations

import argparse

import pytest

from app.cli.chat_service import running_service
from app.cli.credentials import headers_of
from app.domain.errors import RequestError, SteadyhandError
from tests.api.edge import listening, open_edge
from tests.api.keyed import make_key
from tests.scripted import ScriptedProvider


def sent(key: str | None = None, **environ: str) -> dict[str, str]:
    return headers_of(argparse.Namespace(key=key), environ)


def test_where_the_key_comes_from() -> None:
    assert sent() == sent(STEADYHAND_KEY="") == {}
    assert sent(STEADYHAND_KEY=" one\n") == {"Authorization": "Bearer one"}
    assert sent("two", STEADYHAND_KEY="one") == {"Authorization": "Bearer two"}
    for wrong in ("a b", "ä", "a\x00b"):
        with pytest.raises(SteadyhandError):
            sent(wrong)


async def test_a_chat_with_a_service_that_needs_a_key(database: str) -> None:
    _, key = await make_key(database, scopes=["runs"])
    async with open_edge(database, ScriptedProvider()) as e, listening(e.app) as port:
        url = f"http://127.0.0.1:{port}"
        async with running_service(url) as service:
            with pytest.raises(RequestError, match="needs a key"):
                await service.check(None)
        async with running_service(url, sent(key)) as service:
            assert "default agent" in await service.check(None)
