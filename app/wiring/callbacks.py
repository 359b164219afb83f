"""Who sends callbacks, and who answers for them."""

from __future__ import annotations

import httpcore2

from app.callbacks.deliveries import Deliveries
from app.callbacks.sending import Sender
from app.callbacks.service import CallbackService
from app.egress.addresses import Address, is_public
from app.egress.network import system_resolver
from app.settings import Settings
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.pool import Database
from app.storage.postgres.runs import PostgresRunStore


def callbacks_of(settings: Settings, database: Database, store: PostgresRunStore) -> tuple[Deliveries, CallbackService]:
    """Who sends callbacks, and who answers for them."""
    options = settings.callbacks
    kept = PostgresCallbackStore(database=database)

    def allow(address: Address) -> bool:
        return options.allow_private or is_public(address)

    sender = Sender(resolver=system_resolver, allow=allow, network=httpcore2.AnyIOBackend(), time_limit=options.timeout)
    deliveries = Deliveries(
        store=kept, runs=store, sender=sender, secret=options.secret, max_attempts=options.max_attempts
    )
    return deliveries, CallbackService(store=kept, resolver=system_resolver, allow=allow, wake=deliveries.wake)
