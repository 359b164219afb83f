"""What single options mean together: providers with their keys, routes with their targets, limits against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from urllib.parse import urlsplit

from app.domain.errors import ConfigProblem
from app.domain.prices import Price, Rates, Step
from app.settings.auth import check_auth
from app.settings.check import KeyPath
from app.settings.edge import check_database, check_edge, no_url
from app.settings.experiments import check_experiments
from app.settings.options import (
    BudgetOptions,
    CallbackOptions,
    EmbeddingOptions,
    LimitOptions,
    Options,
    PriceOptions,
    ProviderOptions,
    RateOptions,
    RouteOptions,
    Secret,
)
from app.settings.resolved import Budgets, Callbacks, Embeddings, Provider, Route, Settings, Target, Weighted
from app.settings.tiers import check_without_tiers, tier_routes

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NO_VARIABLE = "is not the name of a variable; the secret itself must not stand here"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OWN_HOSTS = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
_VARIABLES = {"openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"), "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")}
_REDIS = ("redis://", "rediss://", "unix://")
_OFFLINE = Target("offline", "offline")


class Resolution:
    """Makes `Settings` of `Options`. Afterwards `problems` has what is wrong between options; keys in `refused` were wrong
    on their own and are not named twice.
    """

    def __init__(self, *, environ: Mapping[str, str], where: Callable[[KeyPath], str], refused: set[KeyPath]) -> None:
        self._environ = environ
        self._where = where
        self._refused = {tuple(key.lower() for key in path) for path in refused}
        self.problems: list[ConfigProblem] = []

    def settings(self, options: Options, profile: str) -> Settings:
        """The settings, of use only while `problems` is empty."""
        check_database(options.database, self._wrong)
        check_edge(options.server, self._wrong)
        if options.redis.url and not options.redis.url.startswith(_REDIS):
            self._wrong(("redis", "url"), f"must begin with {', '.join(_REDIS[:-1])} or {_REDIS[-1]}")
        elif options.redis.url and (why := no_url(options.redis.url)):
            self._wrong(("redis", "url"), why)
        providers = {name: self._provider(name, written) for name, written in options.providers.items()}
        models = {"default": RouteOptions()} | options.models
        routes = {name: self._route(name, written) for name, written in models.items() if written.tiers is None}
        check_without_tiers(models, self._wrong)
        for name in models:
            if not _NAME.fullmatch(name):
                self._wrong(("models", name), "a name is 1 to 64 of A-Z a-z 0-9 _ . -")
        self._check_targets(routes, options.providers, providers)
        check_experiments(options.experiments, self._wrong)
        unset = [name for name in routes if name not in options.models or not options.models[name].chain]
        return Settings(
            profile=profile,
            default_agent=options.default_agent,
            data_dir=options.data_dir,
            server=options.server,
            database=options.database,
            redis=options.redis,
            worker=options.worker,
            limits=self._limits(options.limits),
            admission=options.admission,
            safety=options.safety,
            callbacks=self._callbacks(options.callbacks),
            log=options.log,
            breaker=options.breaker,
            providers=providers,
            routes=routes,
            experiments=options.experiments,
            tiers=tier_routes(models, routes, self._wrong),
            prices=self._prices(options.prices, providers),
            auth=check_auth(options.auth, self._wrong),
            budgets=_budgets(options.budgets),
            embeddings=self._embeddings(options.embeddings, options.providers, providers),
            advice=tuple(
                f'route {name} has no model, so the offline provider answers. Write [models.{name}] chain = ["openai/MODEL"] '
                f'in steadyhand.toml and set OPENAI_API_KEY, or use "anthropic/MODEL" and ANTHROPIC_API_KEY'
                for name in unset
            ),
        )

    def _wrong(self, path: KeyPath, why: str) -> None:
        if not self._known_wrong(path):
            self.problems.append(ConfigProblem(self._where(path), ".".join(path), why))

    def _known_wrong(self, path: KeyPath) -> bool:
        lowered = tuple(key.lower() for key in path)
        return any(lowered[:end] in self._refused for end in range(1, len(path) + 1))

    def _limits(self, written: LimitOptions) -> LimitOptions:
        if len(set(written.per)) < len(written.per):
            self._wrong(("limits", "per"), "names the same twice")
        return written

    def _callbacks(self, written: CallbackOptions) -> Callbacks:
        if not _VARIABLE.fullmatch(written.secret_env):
            self._wrong(("callbacks", "secret_env"), NO_VARIABLE)
        secret = self._environ.get(written.secret_env, "").strip()
        return Callbacks(
            allow_private=written.allow_private,
            secret_env=written.secret_env,
            secret=Secret(secret) if secret else None,
            timeout=written.timeout,
            max_attempts=written.max_attempts,
        )

    def _provider(self, name: str, written: ProviderOptions) -> Provider:
        path = ("providers", name)
        if not _NAME.fullmatch(name):
            self._wrong(path, "a name is 1 to 64 of A-Z a-z 0-9 _ . -")
        if written.kind is None:
            self._wrong((*path, "kind"), "missing: openai, anthropic or offline")
            return Provider(name=name, kind="offline")
        if written.kind == "offline" or name == "offline":
            if written.kind != "offline":
                self._wrong((*path, "kind"), "the provider named offline stays offline; choose another name")
            for key in ("api", "api_key_env", "base_url", "batch"):
                if getattr(written, key) not in (None, ""):
                    self._wrong((*path, key), "has no meaning for kind offline")
            return Provider(name=name, kind="offline")
        if written.kind != "openai" and written.api:
            self._wrong((*path, "api"), "is for kind openai only")
        base_url = self._base_url(path, written)
        own_host = base_url is None or _is_own(written.kind, base_url)
        return Provider(
            name=name,
            kind=written.kind,
            api=written.api,
            base_url=base_url,
            own_host=own_host,
            batch=own_host if written.batch is None else written.batch,
            api_key=Secret(key) if (key := self._environ.get(_key_variable(written) or "", "").strip()) else None,
        )

    def _base_url(self, path: KeyPath, written: ProviderOptions) -> str | None:
        """The URL of the provider's own table, else of the vendor's variable, else None."""
        variable = _VARIABLES[written.kind or "openai"][1]
        url = written.base_url or self._environ.get(variable, "").strip()
        if not url:
            return None
        why = None if _host(url) else "must be an http:// or https:// URL"
        if why is None and "@" in urlsplit(url).netloc:
            why = "must not hold a user or a password: name the variable of the key in api_key_env"
        if why is not None and written.base_url:
            self._wrong((*path, "base_url"), why)
        elif why is not None:
            self.problems.append(ConfigProblem(variable, "base URL", why))
        return url

    def _route(self, name: str, written: RouteOptions) -> Route:
        path = ("models", name)
        places: list[tuple[Weighted, ...]] = []
        for entry in written.chain:
            if isinstance(entry, dict) and not entry:
                self._wrong((*path, "chain"), "a table in it names no target")
            weights = {entry: 1.0} if isinstance(entry, str) else entry
            place = [(self._target((*path, "chain"), text), weight) for text, weight in weights.items()]
            places.append(tuple(Weighted(target, weight) for target, weight in place if target is not None))
        route = Route(
            name=name,
            places=tuple(place for place in places if place) or ((Weighted(_OFFLINE),),),
            timeout=written.timeout,
            first_token_timeout=written.first_token_timeout,
            idle_timeout=written.idle_timeout,
            hedge_after=written.hedge_after,
            on_midstream=written.on_midstream,
            windows={
                target: tokens
                for text, tokens in written.windows.items()
                if (target := self._target((*path, "windows"), text)) is not None
            },
        )
        for target in route.windows:
            if target not in route.chain and not self._known_wrong((*path, "chain")):
                near = get_close_matches(str(target), [str(known) for known in route.chain], n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self._wrong((*path, "windows"), f"{target} is not in the route's chain{hint}")
        if written.hedge_after >= written.first_token_timeout:
            why = f"{written.hedge_after:g} is not less than first_token_timeout, which is {written.first_token_timeout:g}"
            self._wrong((*path, "hedge_after"), why)
        return route

    def _target(self, path: KeyPath, text: str) -> Target | None:
        provider, _, model = text.partition("/")
        if provider and model:
            return Target(provider, model)
        self._wrong(path, f"{text!r} is not of the form provider/model")
        return None

    def _prices(self, written: Sequence[PriceOptions], providers: Mapping[str, Provider]) -> dict[str, Price]:
        """The operator's prices, exactly as written, by provider/model."""
        prices: dict[str, Price] = {}
        for n, price in enumerate(written):
            path = ("prices", str(n), "model")
            provider, _, model = price.model.partition("/")
            if not (provider and model):
                self._wrong(path, f"{price.model!r} is not of the form provider/model")
            elif provider not in providers and not self._known_wrong(("providers", provider)):
                near = sorted(providers)
                self._wrong(path, f"{price.model} names a provider that is not there; known: {', '.join(near)}")
            elif price.model in prices:
                self._wrong(path, f"{price.model} has a price already")
            steps = () if price.above is None else (Step(above=price.above.input_tokens, rates=_rates(price.above)),)
            prices[price.model] = Price(rates=_rates(price), steps=steps, batch=Decimal(repr(price.batch)))
        return prices

    def _embeddings(
        self,
        options: EmbeddingOptions,
        written: Mapping[str, ProviderOptions],
        providers: Mapping[str, Provider],
    ) -> Embeddings | None:
        """A provider that makes vectors, with its key where it takes one. Nothing written: None."""
        name, model = options.provider, options.model or ""
        if options == EmbeddingOptions():
            return None
        path = ("embeddings", "provider")
        if name is None:
            self._wrong(path, "missing: one of the providers")
        elif name not in providers:
            near = sorted(providers)
            if not self._known_wrong(("providers", name)):
                self._wrong(path, f"{name} is not there; known: {', '.join(near)}")
        elif providers[name].kind == "anthropic":
            self._wrong(path, f"{name} is of kind anthropic, which has no embeddings; use kind openai or offline")
        elif providers[name].kind == "offline":
            if model:
                self._wrong(("embeddings", "model"), "has no meaning for kind offline")
        elif not model:
            self._wrong(("embeddings", "model"), "missing, such as text-embedding-3-small")
        else:
            self._check_key(path, f"{name}/{model}", name, written, providers)
        return Embeddings(provider=name or "", model=model, dimensions=options.dimensions)

    def _check_targets(
        self, routes: Mapping[str, Route], written: Mapping[str, ProviderOptions], providers: Mapping[str, Provider]
    ) -> None:
        """Every target has a provider, and every such provider its key."""
        asked: set[str] = set()
        for route in routes.values():
            path = ("models", route.name, "chain")
            for target in route.chain:
                name = target.provider
                if name in asked or self._known_wrong(("providers", name)):
                    continue
                asked.add(name)
                if name not in providers:
                    near = sorted(providers)
                    self._wrong(path, f"{target} names a provider that is not there; known: {', '.join(near)}")
                    continue
                self._check_key(path, str(target), name, written, providers)

    def _check_key(
        self,
        path: KeyPath,
        target: str,
        name: str,
        written: Mapping[str, ProviderOptions],
        providers: Mapping[str, Provider],
    ) -> None:
        """The provider that the target needs has its key."""
        variable = _key_variable(written[name])
        key = providers[name].api_key
        if variable and not _VARIABLE.fullmatch(variable):
            self._wrong(("providers", name, "api_key_env"), NO_VARIABLE)
        elif variable and key is None:
            why = f"{target} needs the variable {variable}, which is not set"
            hint = f'; if that server takes no key, write api_key_env = "" in [providers.{name}]'
            self._wrong(path, why if providers[name].base_url is None else why + hint)
        elif key and not (key.isascii() and key.isprintable()):
            problem = ConfigProblem(str(variable), "not a key", "holds a character that no key has")
            if problem not in self.problems:
                self.problems.append(problem)


def _rates(written: PriceOptions | RateOptions) -> Rates:
    """As decimals: a number of a TOML file is the nearest float, whose shortest text is what was written."""

    def exact(dollars: float | None) -> Decimal | None:
        return None if dollars is None else Decimal(repr(dollars))

    return Rates(
        input=Decimal(repr(written.input)),
        output=Decimal(repr(written.output)),
        cache_read=exact(written.cache_read),
        cache_write=exact(written.cache_write),
        cache_write_1h=exact(written.cache_write_1h),
    )


def _budgets(written: BudgetOptions) -> Budgets:
    """As decimals, as written; see `_rates`."""
    caps = {
        name: Decimal(repr(cap))
        for name, cap in (("user", written.user_monthly_usd), ("tenant", written.tenant_monthly_usd))
        if cap is not None
    }
    levels = tuple(sorted({Decimal(repr(part)) for part in written.notify}))
    return Budgets(**caps, levels=levels, written=tuple(f"{name}_monthly_usd" for name in caps))


def _key_variable(written: ProviderOptions) -> str | None:
    """The variable that holds the provider's key; None where it takes none.

    A server that is not the vendor's own gets a key only from a variable that its table names: the vendor's key must not
    leave for another host because somebody added a local model server.
    """
    if written.kind in (None, "offline") or written.api_key_env is not None:
        return written.api_key_env or None
    if written.base_url and not _is_own(written.kind, written.base_url):
        return None
    return _VARIABLES[written.kind][0]


def _is_own(kind: str, url: str) -> bool:
    """Whether the vendor itself answers there, regional hosts included."""
    own = _OWN_HOSTS[kind]
    host = _host(url)
    return host == own or host.endswith("." + own)


def _host(url: str) -> str:
    """The URL's host; empty for what is no http or https URL."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""
