"""`uv run python -m ops.complexity`: where a route with tiers sends labelled questions by their score, and what that saves.

FILE has one JSON object a line: {"text": …, "tier": "cheap" | "mid" | "premium"}. No model is called: what the score says nothing
about goes to the route's default, as without a classifier. Prices are those of the first target of each tier. A question
is priced with its own length and the same number of output tokens at every tier, so the saving is one of prices alone.
Exit code 1 where a price is not known.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.agent import tokens
from app.agent.complexity import Asked, Verdict, score
from app.domain.errors import ConfigError
from app.domain.tiers import TIERS, Tier, TierRoute
from app.settings import Settings, load, read_files
from ops.complexity.measure import Agreement, Priced, agreement, priced

HERE = Path(__file__).parent
KEYS = {"OPENAI_API_KEY": "not used", "ANTHROPIC_API_KEY": "not used"}


class Question(msgspec.Struct, frozen=True):
    """A line of the file."""

    text: str
    tier: Tier


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.complexity", description=__doc__)
    parser.add_argument(
        "file", nargs="?", type=Path, default=HERE / "questions.jsonl", help="default: the set beside this"
    )
    parser.add_argument(
        "--workspace", type=Path, default=HERE, help="whose steadyhand.toml has the route and the prices"
    )
    parser.add_argument("--route", default="auto", help="a route with tiers (default: auto)")
    parser.add_argument("--output-tokens", type=int, default=400, metavar="N", help="of each answer (default: 400)")
    parser.add_argument("--list", action="store_true", help="every question with its verdict")
    return parser.parse_args()


async def main(options: argparse.Namespace) -> int:
    try:
        settings = load(KEYS, read_files(options.workspace, KEYS))
        questions = [
            msgspec.json.decode(line, type=Question) for line in options.file.read_bytes().splitlines() if line
        ]
    except (ConfigError, OSError, msgspec.DecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    route = settings.tiers.get(options.route)
    if route is None or not questions:
        known = ", ".join(settings.tiers) or "none"
        print(f"there is no route {options.route} with tiers (known: {known}), or no question", file=sys.stderr)
        return 2
    verdicts = [score(Asked(question.text), route) for question in questions]
    if options.list:
        _list(questions, verdicts)
    labels = [question.tier for question in questions]
    _tell(agreement(labels, [verdict.tier for verdict in verdicts], route.default))
    return await _save(settings, route, questions, verdicts, options.output_tokens)


def _list(questions: Sequence[Question], verdicts: Sequence[Verdict]) -> None:
    for question, verdict in zip(questions, verdicts, strict=True):
        said = verdict.tier or "–"
        print(f"{question.tier:8} {said:8} {verdict.score:6.2f}  {question.text[:60]!r}  {', '.join(verdict.reasons)}")
    print()


def _tell(found: Agreement) -> None:
    print(f"{found.questions} questions: {Counter(found.labels)}".replace("Counter", ""))
    print(f"  the score decided   {found.decided:3}, abstained on {found.questions - found.decided}")
    for name, part in (("agreement, decided", found.of_decided), ("agreement, all", found.of_all)):
        print(f"  {name:19} {part.share:6.1%}   95 % interval {part.low:.1%} to {part.high:.1%}")
    for (label, tier), times in sorted(found.errors.items()):
        print(f"  labelled {label}, sent to {tier}: {times}")


async def _save(
    settings: Settings, route: TierRoute, questions: Sequence[Question], verdicts: Sequence[Verdict], output: int
) -> int:
    prices: dict[Tier, Priced] = {tier: await priced(settings, route.routes[tier]) for tier in TIERS}
    unknown = [price.target for price in prices.values() if price.cost(1, 1) is None]
    if unknown:
        print(f"  saving              not known: there is no price for {', '.join(unknown)}")
        return 1
    lengths = [tokens.prose(question.text) for question in questions]

    def total(tiers: Sequence[Tier]) -> float:
        return sum(float(prices[tier].cost(n, output) or 0) for tier, n in zip(tiers, lengths, strict=True))

    routed = total([verdict.tier or route.default for verdict in verdicts])
    print(f"  cost by tiers       {routed:.6f} USD ({output} output tokens an answer)")
    for name in dict.fromkeys((route.default, "premium")):
        everything = total([name] * len(questions))
        print(f"  all on {name:12} {everything:.6f} USD ({prices[name].target}): saves {1 - routed / everything:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
