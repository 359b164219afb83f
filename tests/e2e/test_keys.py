"""Keys and tokens from outside: made by the command, heeded by services that run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from app.access.format import is_key
from tests.access.issuer import AUDIENCE, ISSUER, Signer
from tests.e2e.service import Ended, Service, run, serve, workspace


async def keys(folder: Path, *arguments: str, **environ: str) -> dict[str, Any]:
    """What the command says, as JSON."""
    code, out, errors = await run(folder, "keys", *arguments, "--json", environ=environ)
    assert code == 0, errors
    found: dict[str, Any] = msgspec.json.decode(out)
    return found


async def answered(service: Service, status: int, key: str | None = None) -> None:
    """Requests are answered so within a second."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(5):  # on a slow machine
        while (await service.client.get("/v1/runs", headers=headers)).status_code != status:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)


async def test_the_first_key_closes_a_service_that_runs(tmp_path: Path) -> None:
    """On the embedded database, which the command reaches while the service has it."""
    async with serve(tmp_path) as service:
        assert "no key is needed" in service.banner
        await answered(service, 200)
        made = await keys(tmp_path, "create", "--tenant", "acme", "--user", "ann", "--expires", "1d")
        assert is_key(made["key"])
        assert (made["tenant"], made["user_id"], made["scopes"]) == ("acme", "ann", ["runs"])
        await answered(service, 401)
        await answered(service, 200, made["key"])
        access = (await service.client.get("/readiness")).json()["checks"]["access"]
        assert access["detail"] == "every request needs an API key"
        asked = await service.client.post(
            "/chat", json={"message": "What is 6 * 7?"}, headers={"X-API-Key": made["key"]}
        )
        assert asked.status_code == 200, asked.text
        code, out, errors = await run(tmp_path, "cache", "invalidate", "--all", "--url", service.url)
        assert (code, "needs a key" in errors) == (1, True), (out, errors)
        admin = await keys(tmp_path, "create", "--scopes", "admin,usage", "tool:payments")
        assert admin["scopes"] == ["admin", "tool:payments", "usage"]
        code, out, errors = await run(
            tmp_path, "cache", "invalidate", "--all", "--url", service.url, environ={"STEADYHAND_KEY": admin["key"]}
        )
        assert code == 0, errors
        revoked = await keys(tmp_path, "revoke", made["id"])
        assert revoked["revoked_at"]
        await answered(service, 401, made["key"])
        listed = (await keys(tmp_path, "list"))["data"]
        assert [key["id"] for key in listed] == [admin["id"], made["id"]]
        assert made["key"] not in json.dumps(listed)
        assert made["key"] not in service.stderr
        doctor = await run(tmp_path, "doctor")
        assert "1 API keys may be used" in doctor[1]


@pytest.mark.long
async def test_a_service_for_others_needs_a_key_to_start(tmp_path: Path, database: str) -> None:
    environ = {"DATABASE_URL": database}
    with pytest.raises(Ended, match="--insecure"):
        async with serve(tmp_path, "--host", "0.0.0.0", environ=environ):
            pass
    (tmp_path / "first.key").write_text("0123456789abcdef0123456789abcdef\n")
    first = environ | {"STEADYHAND__AUTH__BOOTSTRAP_KEY_FILE": str(tmp_path / "first.key")}
    async with serve(tmp_path, "--host", "0.0.0.0", environ=first) as service:
        assert "every request needs an API key" in service.banner
        service.client.base_url = httpx2.URL(f"http://127.0.0.1:{service.port}")
        await answered(service, 401)
        await answered(service, 200, "0123456789abcdef0123456789abcdef")
    async with serve(tmp_path, "--host", "0.0.0.0", "--insecure", environ=environ) as service:
        service.client.base_url = httpx2.URL(f"http://127.0.0.1:{service.port}")
        await answered(service, 401)  # there is a key


async def test_commands_of_our_own_need_no_key(tmp_path: Path, database: str) -> None:
    """Who reaches the database needs none: `batch` asks a service of its own."""
    workspace(
        tmp_path,
        {"agents/plain.yaml": "kind: chat\ninstructions: Be brief.\n", "steadyhand.toml": 'default_agent = "plain"\n'},
    )
    await keys(tmp_path, "create", DATABASE_URL=database)
    (tmp_path / "items").write_text('{"message": "x"}\n')
    code, out, errors = await run(tmp_path, "batch", str(tmp_path / "items"), environ={"DATABASE_URL": database})
    assert (code, len(out.splitlines())) == (0, 1), errors


@asynccontextmanager
async def publishing(document: bytes) -> AsyncIterator[str]:
    """The URL of an issuer's keys."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(document) + document)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


async def test_tokens_of_an_issuer(tmp_path: Path, database: str) -> None:
    signer = Signer("one", "ES256")
    async with publishing(json.dumps({"keys": [signer.public()]}).encode()) as url:
        environ = {
            "DATABASE_URL": database,
            "STEADYHAND__AUTH__JWT_ISSUER": ISSUER,
            "STEADYHAND__AUTH__JWT_AUDIENCE": AUDIENCE,
            "STEADYHAND__AUTH__JWKS_URL": url,
        }
        async with serve(tmp_path, environ=environ) as service:
            assert "an API key or a token" in service.banner
            await answered(service, 401)
            await answered(service, 200, signer.token())
            await answered(service, 401, Signer("one", "ES256").token())
            turn = await service.client.post(
                "/chat", json={"message": "x"}, headers={"Authorization": f"Bearer {signer.token()}"}
            )
            assert turn.status_code == 200, turn.text
            run_id = turn.json()["run_id"]
            for tenant, user, status in (("acme", "ann", 200), ("acme", "bob", 404), ("other", "ann", 404)):
                headers = {"Authorization": f"Bearer {signer.token(tenant=tenant, sub=user)}"}
                assert (await service.client.get(f"/v1/runs/{run_id}", headers=headers)).status_code == status
