"""`python -m ops.semantic_cache [--workspace DIR] [--json]`: hit rate and wrong-hit rate of the semantic cache by threshold.

Without --workspace the offline embeddings are measured, which see letters and no meaning; with it those of the workspace's
[embeddings], whose provider is asked once for every text. Intervals are Wilson's, 95 %. Thresholds that a model needs differ: run
this with the model that you mean to use, and read the column with guards, which is what the service does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from app.domain.cache import Embedder
from app.domain.guards import features, near_miss
from app.llm.offline_embedding import OfflineEmbedder
from app.runs.alike import similarity
from app.wiring.caches import embedder_of
from app.wiring.models import providers_of
from app.workspace.load import load_workspace
from ops.semantic_cache.pairs import OTHER, SAME, pairs

THRESHOLDS = (0.80, 0.825, 0.85, 0.875, 0.90, 0.925, 0.95)
BATCH = 64
Z = 1.959963984540054


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    share, shrink = count / total, 1 + Z * Z / total
    middle = (share + Z * Z / (2 * total)) / shrink
    half = Z * math.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total)) / shrink
    return max(0.0, middle - half), min(1.0, middle + half)


def passes(first: str, second: str) -> bool:
    """Whether the guards let one question have the other's answer."""
    return features(first) == features(second) and not near_miss(first, second)


async def vectors_of(embedder: Embedder, texts: list[str]) -> dict[str, list[float]]:
    """A vector for every text."""
    found: dict[str, list[float]] = {}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        found |= dict(zip(batch, (await embedder.embed(batch)).vectors, strict=True))
    return found


async def measure(embedder: Embedder) -> list[dict[str, Any]]:
    """A row for each threshold, with and without guards: [count, of how many, low, high] of hits and of wrong hits."""
    labelled = [(True, *pair) for pair in pairs(SAME)] + [(False, *pair) for pair in pairs(OTHER)]
    vectors = await vectors_of(embedder, list(dict.fromkeys(text for _, *both in labelled for text in both)))
    judged = [(same, similarity(vectors[a], vectors[b]), passes(a, b)) for same, a, b in labelled]
    rows = []
    for threshold in THRESHOLDS:
        for guarded in (False, True):
            row: dict[str, Any] = {"threshold": threshold, "guards": guarded}
            for name, label in (("hits", True), ("wrong", False)):
                of = [near >= threshold and (passed or not guarded) for same, near, passed in judged if same is label]
                row[name] = [sum(of), len(of), *wilson(sum(of), len(of))]
            rows.append(row)
    return rows


def _share(count: int, total: int, low: float, high: float) -> str:
    return f"{count:3d}/{total} {count / total:6.1%} [{low:6.1%}, {high:6.1%}]"


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops.semantic_cache", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--workspace", type=Path, help="whose [embeddings] to measure (default: the offline ones)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    async with AsyncExitStack() as stack:
        embedder: Embedder | None = OfflineEmbedder()
        if options.workspace is not None:
            settings = load_workspace(options.workspace, os.environ).settings
            providers = providers_of(settings, None)
            for provider in providers.values():
                stack.push_async_callback(provider.aclose)
            embedder = embedder_of(settings, providers)
            if embedder is None:
                parser.error(f"{options.workspace} has no [embeddings]")
        assert embedder is not None
        rows = await measure(embedder)
    if options.json:
        print(json.dumps({"embeddings": f"{embedder.provider}/{embedder.model}", "rows": rows}))
        return
    print(f"embeddings: {embedder.provider}/{embedder.model}; intervals: Wilson, 95 %")
    print("threshold  guards  same question, hit                 other question, hit (wrong answer)")
    for row in rows:
        said = "yes" if row["guards"] else "no "
        print(f"{row['threshold']:9.3f}  {said:6}  {_share(*row['hits']):33}  {_share(*row['wrong'])}")


if __name__ == "__main__":
    asyncio.run(main())
