"""What readiness looks at."""

from __future__ import annotations

from app.access.authentication import Authentication
from app.api.guards import Gate
from app.api.health import Checker, LoopWatch, Readings
from app.api.schemas import CheckStatus
from app.api.targets import Targets
from app.main import VERSION
from app.storage.migrate import read_migrations, status
from app.storage.postgres.pool import Database
from app.storage.redis.live import RedisLive


def readings_of(
    database: Database,
    gate: Gate,
    loop_watch: LoopWatch,
    targets: Targets,
    channel: RedisLive | None,
    authentication: Authentication | None,
) -> Readings:
    """`authentication` None: requests are for health alone."""
    migrations = read_migrations()

    async def answers() -> tuple[CheckStatus, str | None]:
        await database.fetchval("SELECT 1")
        return "ok", None

    async def migrated() -> tuple[CheckStatus, str | None]:
        pending = (await status(database, migrations)).pending
        return ("failed", f"pending: {', '.join(pending)}; run `steadyhand migrate`") if pending else ("ok", None)

    async def serving() -> tuple[CheckStatus, str | None]:
        return ("ok", None) if gate.closed is None else ("failed", gate.closed)

    def usable(provider: str) -> Checker:
        async def check() -> tuple[CheckStatus, str | None]:
            return targets.check(provider)

        return check

    async def redis() -> tuple[CheckStatus, str | None]:
        assert channel is not None
        wrong = await channel.health()
        return ("ok", None) if wrong is None else ("degraded", "cannot be reached; `steadyhand doctor` says why")

    async def access() -> tuple[CheckStatus, str | None]:
        assert authentication is not None
        required = await authentication.required()
        if (failing := authentication.failing()) is not None:
            return "degraded", f"the keys of the token issuer cannot be fetched: {failing}"
        return "ok", "no key is needed" if required is None else f"every request needs {required}"

    others: dict[str, Checker] = {f"provider:{name}": usable(name) for name in targets.providers}
    if authentication is not None:
        others["access"] = access
    return Readings(
        version=VERSION,
        vital={"database": answers, "migrations": migrated, "serving": serving, "event_loop": loop_watch.check},
        others=others if channel is None else others | {"redis": redis},
    )
