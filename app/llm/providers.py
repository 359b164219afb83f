"""Providers by their settings: one SDK client each, and a target for every model of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.llm import anthropic, anthropic_messages, openai_chat, openai_client, openai_responses
from app.llm.anthropic_batch import AnthropicBatches
from app.llm.batch_files import Answers
from app.llm.client import SdkClient
from app.llm.openai_batch import OpenAIBatches
from app.llm.openai_embeddings import OpenAIEmbedder
from app.llm.prices import PriceBook, TargetPrices, Vendor
from app.llm.refusals import Refusals
from app.llm.target import Api, ModelTarget

if TYPE_CHECKING:
    import httpx2

ProviderKind = Literal["openai", "anthropic"]
OpenAIApi = Literal["responses", "chat"]

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"


class ModelProvider:
    """One account at one vendor. Its client connects on first use; `aclose` ends its connections."""

    def __init__(
        self,
        *,
        name: str,
        kind: ProviderKind,
        client: SdkClient,
        api: Api,
        base_url: str,
        vendor: Vendor,
        prices: PriceBook | None,
        batch: bool,
    ) -> None:
        self.name = name
        self.kind = kind
        self.base_url = base_url
        self._client = client
        self._api = api
        self._vendor = vendor
        self._prices = prices
        self._batch = batch
        self._priced: list[TargetPrices] = []
        self._refusals: dict[str, Refusals] = {}

    def target(self, model: str) -> ModelTarget:
        """One model of it."""
        prices = None if self._prices is None else self._prices.target(self.name, model, self._vendor)
        if prices is not None:
            self._priced.append(prices)
        return ModelTarget(
            provider=self.name,
            system=self.kind,
            model=model,
            client=self._client,
            api=self._api,
            refusals=self._refusals.setdefault(
                model, Refusals(provider=self.name, model=model, optional=self._api.optional)
            ),
            prices=prices,
        )

    def refused(self, model: str) -> list[str]:
        """The parameters that the model was found to refuse."""
        found = self._refusals.get(model)
        return [] if found is None else found.parameters

    def batches(self, model: str) -> OpenAIBatches | AnthropicBatches | None:
        """The same model, asked in batches; None where the provider has no Batch API."""
        if not self._batch:
            return None
        prices = None if self._prices is None else self._prices.target(self.name, model, self._vendor)
        answers = Answers(provider=self.name, model=model, api=self._api, prices=prices)
        asked = AnthropicBatches if self.kind == "anthropic" else OpenAIBatches
        return asked(provider=self.name, model=model, client=self._client, api=self._api, answers=answers)

    def embedder(self, model: str, dimensions: int | None) -> OpenAIEmbedder:
        """One embedding model of it; its kind is openai."""
        assert self.kind == "openai"
        return OpenAIEmbedder(provider=self.name, model=model, client=self._client, dimensions=dimensions)

    async def warm(self) -> None:
        """The SDK is imported (in a thread) and the client built, and its models' prices are there, so that the first call does not wait."""
        await self._client.warm()
        for prices in self._priced:
            await prices.ready()

    async def aclose(self) -> None:
        """Its connections are closed."""
        await self._client.aclose()


def open_provider(
    *,
    name: str,
    kind: ProviderKind,
    api: OpenAIApi | None = None,
    api_key: str | None,
    base_url: str | None,
    own_host: bool = True,
    batch: bool = False,
    http_client: httpx2.AsyncClient | None = None,
    prices: PriceBook | None = None,
) -> ModelProvider:
    """A provider as the settings name it; nothing is imported or connected yet.

    `base_url` None: the vendor's own. `own_host`: the vendor itself answers there, as the settings have judged. `api_key`
    None: none is sent. `batch`: it has its vendor's Batch API. `api` None: Responses at OpenAI's own host, Chat Completions anywhere else. `http_client` replaces
    the SDK's and is closed with the provider once it was used. `prices` None: its attempts say nothing of their cost.

    List prices are those of the host that answers. A host that no list knows has its vendor's list prices where the provider
    is named after the vendor, and none otherwise; a vendor's regional hosts charge more than its list says, so they have none.
    """
    url = base_url or (ANTHROPIC_URL if kind == "anthropic" else OPENAI_URL)
    if kind == "anthropic":
        load, spoken = anthropic.load, anthropic_messages.API
    else:
        responses = api == "responses" or (api is None and own_host)
        written = openai_responses if responses else openai_chat
        load, spoken = openai_client.load, written.api(own_host=own_host)
    client = SdkClient(load=lambda: load(api_key, url, http_client), secret=api_key or None)
    vendor = Vendor(url=url, id=kind if name == kind and not own_host else None)
    return ModelProvider(
        name=name, kind=kind, client=client, api=spoken, base_url=url, vendor=vendor, prices=prices, batch=batch
    )
