"""Experiments: which variant of an agent answers whom, always the same for the same subject."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from app.domain.agents import Agent

CONTROL = "control"
"""The agent as it is: whoever is in no variant."""
BUCKETS = 10_000
Subject = Literal["user", "session"]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way of an agent, for that percentage. `agent` is the whole definition, under the name of the agent that it varies."""

    name: str
    percent: float
    agent: Agent


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """Variants of one agent. `salt` decides together with the subject; another one deals all subjects anew.

    `shadow`: what that percentage of the runs is repeated with, for the record only.
    """

    name: str
    agent: str
    salt: str
    by: Subject = "user"
    variants: tuple[Variant, ...] = ()
    shadow: Variant | None = None

    def variant(self, user_id: str | None, session_id: str) -> Variant | None:
        """The variant of that user (of the session, where there is none, or where sessions are dealt); None: the control.

        The variants lie on the buckets in their order, and the control has what is left: a percentage that grows keeps
        everybody that it had, and the last one's growth takes from the control alone.
        """
        subject = user_id if self.by == "user" and user_id is not None else session_id
        place, end = bucket(self.salt, subject), 0.0
        for variant in self.variants:
            end += variant.percent
            if place < round(end * BUCKETS / 100):
                return variant
        return None

    def shadows(self, run_id: str) -> bool:
        """Whether that run is repeated with the shadow."""
        if self.shadow is None:
            return False
        return bucket(f"{self.salt}\nshadow", run_id) < round(self.shadow.percent * BUCKETS / 100)


def bucket(salt: str, subject: str) -> int:
    """0 to 9,999, by SHA-256 over both: the same in every process and every release."""
    digest = hashlib.sha256(f"{salt}\n{subject}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS
