"""`steadyhand controls …`: switch off agents, tools and tenants for everybody, or for one tenant, on the machine of the service."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from app.cli.commands import DONE
from app.cli.database import open_database
from app.cli.operator import operator
from app.domain.controls import Control, Reach
from app.domain.errors import SteadyhandError
from app.domain.principals import DEFAULT_TENANT
from app.runs.agents import Agents
from app.runs.controls import unknown, unseen
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.runs import PostgresRunStore
from app.workspace.load import Workspace, load_workspace


class _Enabled(msgspec.Struct, frozen=True):
    enabled: bool


class _List(msgspec.Struct, frozen=True):
    data: list[Control]


async def run(options: argparse.Namespace) -> int:
    """Fails where there is nothing of that name, a tenant (unless --unseen says that there is) included, and where what is to be switched on was not off."""
    workspace = load_workspace(options.workspace, os.environ)
    async with _store(workspace) as (store, agents):
        if options.action == "list":
            found = await store.controls(options.tenant)
            print(msgspec.json.encode(_List(found)).decode() if options.json else _table(found))
            return DONE
        kind, name = options.kind, options.name
        reach: Reach = "instance" if options.tenant is None else "tenant"
        by = operator(options.tenant or DEFAULT_TENANT)
        if options.action == "enable":
            if not await store.enable(by, reach, kind, name):
                raise SteadyhandError(f"{kind} {name} was not switched off for {_whom(options.tenant)}")
            print(
                msgspec.json.encode(_Enabled(True)).decode()
                if options.json
                else f"{kind} {name} is on again for {_whom(options.tenant)}"
            )
            return DONE
        if (problem := await unknown(store, kind, name, options.tenant, agents)) is not None:
            raise SteadyhandError(problem)
        for tenant in {options.tenant, name if kind == "tenant" else None} - {None}:
            if not options.unseen and (problem := await unseen(store, tenant)) is not None:
                raise SteadyhandError(
                    f"{problem} Where an issuer of tokens knows it: --unseen switches it off all the same."
                )
        control = await store.disable(by, reach, kind, name, options.reason)
        print(
            msgspec.json.encode(control).decode()
            if options.json
            else f"{kind} {name} is off for {_whom(options.tenant)}"
        )
    return DONE


@asynccontextmanager
async def _store(workspace: Workspace) -> AsyncIterator[tuple[PostgresControls, Agents]]:
    settings = workspace.settings
    async with open_database(settings) as db:
        runs = PostgresRunStore(database=db, owner="controls", lease=1.0)
        yield (
            PostgresControls(database=db),
            Agents(
                current=workspace.agents,
                default=settings.default_agent,
                store=runs,
                experiments=workspace.experiments,
            ),
        )


def _whom(tenant: str | None) -> str:
    return "everybody" if tenant is None else f"tenant {tenant}"


def _table(controls: Sequence[Control]) -> str:
    """A line for each."""
    if not controls:
        return "nothing is switched off"
    return "\n".join(
        f"{one.kind} {one.name}  off for {'everybody' if one.reach == 'instance' else 'the tenant'} since "
        f"{one.at:%Y-%m-%d %H:%M:%S %Z} by {one.by}{f': {one.reason}' if one.reason else ''}"
        for one in controls
    )
