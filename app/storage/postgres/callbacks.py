"""`CallbackStore` on PostgreSQL. The statements stand in callbacks.sql."""

from __future__ import annotations

from app.domain.callbacks import Callback, CallbackAttempt, CallbackStatus, Delivery, Outcome
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries


class PostgresCallbackStore:
    """Callbacks, their attempts and the secret that signs them in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("callbacks.sql")

    async def claim(self, seconds: float, spared: list[str]) -> Delivery | None:
        row = await self._db.fetchrow(self._sql["claim"], seconds, spared)
        return None if row is None else Delivery(**row)

    async def record(
        self, delivery: Delivery, outcome: Outcome | None, status: CallbackStatus, pause: float | None
    ) -> bool:
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(self._sql["lock"], delivery.run_id)
            if row is None:  # its run was deleted
                return False
            if outcome is not None:
                await connection.execute(
                    self._sql["log"], delivery.run_id, row["tenant"], row["owner"],
                    outcome.duration_ms, outcome.status, outcome.error,
                )  # fmt: skip
            done: str = await connection.execute(self._sql["settle"], delivery.run_id, delivery.claim, status, pause)
            return done == "UPDATE 1"

    async def give_back(self, delivery: Delivery) -> None:
        await self._db.execute(self._sql["give_back"], delivery.run_id, delivery.claim)

    async def callback(self, principal: Principal, run_id: str) -> Callback | None:
        rows = await self._db.fetch(self._sql["callback"], run_id, principal.tenant, principal.sees)
        if not rows:
            return None
        return Callback(
            url=rows[0]["url"],
            status=rows[0]["callback_status"],
            next_at=rows[0]["next_at"],
            data=tuple(
                CallbackAttempt(**{name: row[name] for name in CallbackAttempt.__struct_fields__})
                for row in rows
                if row["number"] is not None
            ),
        )

    async def replay(self, principal: Principal, run_id: str) -> bool:
        return await self._db.execute(self._sql["replay"], run_id, principal.tenant, principal.sees) == "UPDATE 1"

    async def secret(self, name: str, fresh: str) -> str:
        while True:  # made by another replica and gone again between two statements: say it again
            value: str | None = await self._db.fetchval(self._sql["secret"], name)
            if value is not None:
                return value
            await self._db.execute(self._sql["make_secret"], name, fresh)
