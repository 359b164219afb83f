"""What an SDK has prepared once is used again: by whom, for what, and until when."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from app.domain.errors import ProviderError
from app.llm import anthropic, openai_client
from app.llm.client import Sdk, SdkClient
from tests.llm.wire import Script, Served

PATH = "/v1/things"
HEADERS = {"Accept": "text/event-stream"}
each_sdk = pytest.mark.parametrize("load", [openai_client.load, anthropic.load], ids=["openai", "anthropic"])


class House:
    """A client whose SDK is at hand, and how often that was loaded."""

    def __init__(self, load: Any, *answers: Served) -> None:
        self.script = Script(*answers)
        self.loaded: list[Sdk] = []
        self._load = load
        self.client = SdkClient(load=self._sdk)

    def _sdk(self) -> Sdk:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self.script))
        self.loaded.append(self._load("first", "http://models.test", http))
        return self.loaded[-1]

    async def post(self) -> None:
        response = await self.client.post(PATH, b"{}", HEADERS)
        await response.aclose()

    def sent(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.script.requests]


@each_sdk
async def test_a_401_drops_what_was_prepared(load: Any) -> None:
    """A credential that the SDK has renewed since is sent from the call after the one that was refused."""
    cookie = {"set-cookie": "a=b"}
    house = House(load, Served(b"", headers=cookie), Served(b"{}", 401), Served(b""), Served(b""), Served(b"{}", 503))
    await house.post()
    (sdk,) = house.loaded
    sdk.client.api_key = "second"
    with pytest.raises(ProviderError) as failure:
        await house.post()
    assert (failure.value.kind, failure.value.status) == ("auth", 401)
    await house.post()
    await house.post()
    with pytest.raises(ProviderError):
        await house.post()
    await house.client.aclose()
    keys = ["Bearer first"] * 2 + ["Bearer second"] * 3
    assert house.sent("authorization") == keys
    assert house.sent("cookie")[3] is None


@each_sdk
async def test_only_a_path_s_first_call_goes_through_the_sdk(load: Any) -> None:
    house = House(load, *[Served(b"")] * 3)
    for _ in range(3):
        await house.post()
    await house.client.aclose()
    assert len({str(request.url) for request in house.script.requests}) == 1
    assert house.sent("x-stainless-retry-count") == ["0", None, None]
    first, *others = ({name.lower(): value for name, value in r.headers.raw} for r in house.script.requests)
    first.pop(b"x-stainless-retry-count")
    first.pop(b"idempotency-key", None)
    assert others == [first, first]


@each_sdk
async def test_first_calls_at_the_same_time(load: Any) -> None:
    """The SDK is loaded once, and each call is sent once."""
    house = House(load, *[Served(b"")] * 6)
    await asyncio.gather(*(house.post() for _ in range(5)))
    await house.post()
    await house.client.aclose()
    assert len(house.loaded) == 1
    assert len(house.script.requests) == 6
    assert len(set(house.sent("authorization"))) == 1
    assert house.sent("x-stainless-retry-count")[5] is None


@pytest.mark.parametrize(
    ("secret", "told"), [("sk-a-whole-key", "*** is wrong in ***"), ("x", "sk-a-whole-key is wrong in x")]
)
def test_no_error_has_the_key_of_its_account(secret: str, told: str) -> None:
    place = "sk-a-whole-key" if len(secret) > 1 else "x"
    error = ProviderError("bad_request", f"sk-a-whole-key is wrong in {place}", code=place, parameter=place)
    hidden = SdkClient(load=lambda: pytest.fail("not loaded"), secret=secret).hide(error)
    assert str(hidden) == told
    assert (hidden.code, hidden.parameter) == (("***", "***") if len(secret) > 1 else ("x", "x"))
