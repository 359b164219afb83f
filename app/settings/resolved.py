"""What the program gets of the settings: `Settings`, with everything looked up that the files only name. Times are seconds."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from app.domain.prices import Price
from app.domain.tiers import TierRoute
from app.settings.experiments import ExperimentOptions
from app.settings.options import (
    TENANT_MONTHLY_USD,
    AdmissionOptions,
    AuthOptions,
    Breaker,
    Database,
    LimitOptions,
    Log,
    OnMidstream,
    OpenAIApi,
    ProviderKind,
    Redis,
    Safety,
    Secret,
    Server,
    Worker,
)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A model provider, resolved.

    `base_url` None: the SDK's own host. `own_host`: the vendor itself answers there. `api_key` None: the server takes no
    key, so none is sent. `api` None (kind `openai`): Responses at the vendor's own host, Chat Completions anywhere else.
    `batch`: it has its vendor's Batch API, as vendors' own hosts do and others may.
    """

    name: str
    kind: ProviderKind
    api: OpenAIApi | None = None
    base_url: str | None = None
    own_host: bool = True
    batch: bool = True
    api_key: Secret | None = None


class Callbacks(msgspec.Struct, frozen=True, kw_only=True):
    """Calls to the URLs that clients gave, resolved.

    `allow_private`: also to private addresses; `secret` signs them, None where the variable `secret_env` is not set: then one is
    made; `timeout` bounds one attempt, of which there are `max_attempts`.
    """

    allow_private: bool
    secret_env: str
    secret: Secret | None
    timeout: float
    max_attempts: int


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What a month may cost, resolved. None: nobody bounds it. `levels` are the parts at which it is told, in rising order.

    `written`: the keys that the operator wrote, which need a price for every model.
    """

    user: Decimal | None = None
    tenant: Decimal | None = TENANT_MONTHLY_USD
    levels: tuple[Decimal, ...] = ()
    written: tuple[str, ...] = ()


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """What turns texts into vectors, resolved. `model` is empty for kind `offline`; `dimensions` None: as many as the model has."""

    provider: str
    model: str
    dimensions: int | None = None


class Target(msgspec.Struct, frozen=True):
    """One model of one provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Weighted(msgspec.Struct, frozen=True):
    """A target, and how often it goes first among those that share its place."""

    target: Target
    weight: float = 1.0


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Places in the order they are tried, each with one target or several alternatives; never empty.

    `timeout` bounds one model call, all attempts together. `hedge_after`: a second target is asked beside one that has said nothing
    for so long, 0: never. `on_midstream`: a failure after the first text begins the answer anew, or is the error. `windows`: tokens
    that targets can read, as far as it was written down.
    """

    name: str
    places: tuple[tuple[Weighted, ...], ...]
    timeout: float
    first_token_timeout: float
    idle_timeout: float
    hedge_after: float = 0.0
    on_midstream: OnMidstream = "reset"
    windows: dict[Target, int] = {}

    @property
    def chain(self) -> tuple[Target, ...]:
        """Every target, as written."""
        return tuple(weighted.target for place in self.places for weighted in place)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the composition root needs.

    `providers` are all that may be used (those of a chain have their key); `routes` are those with a chain, `tiers` those with
    tiers, and one of them is `default`; `prices` are the operator's own, by provider/model. `experiments` are as written: the
    workspace resolves them. `auth` has all of issuer, audience and URL of tokens, or none. `embeddings` None: there are none.
    `warnings` and `advice` are sentences for the log and the banner. `dotenv` holds the variables of `.env` that the process
    does not have yet: the program puts them into its environment, so that OTEL_* and the workspace's tools see them too.
    `data_dir`, where relative, is meant from the current folder.
    """

    profile: str
    default_agent: str
    data_dir: str
    server: Server
    database: Database
    redis: Redis
    worker: Worker
    limits: LimitOptions = LimitOptions()
    admission: AdmissionOptions = AdmissionOptions()
    safety: Safety
    callbacks: Callbacks
    log: Log
    breaker: Breaker
    providers: dict[str, Provider]
    routes: dict[str, Route]
    tiers: dict[str, TierRoute] = {}
    experiments: dict[str, ExperimentOptions] = {}
    prices: dict[str, Price] = {}
    auth: AuthOptions = AuthOptions()
    budgets: Budgets = Budgets()
    embeddings: Embeddings | None = None
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    dotenv: dict[str, Secret] = {}

    @property
    def route_names(self) -> frozenset[str]:
        """Every route that an agent may name."""
        return frozenset({*self.routes, *self.tiers})
