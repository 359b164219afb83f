"""What a path takes: the answer to OPTIONS.

Litestar's own names only the methods of the first handler of a path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar import Response
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler, route


def options_of(handlers: Iterable[Any]) -> list[HTTPRouteHandler]:
    """For each path of the handlers one that answers OPTIONS with all the methods that the path takes."""
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler):
            for path in handler.paths:
                methods.setdefault(path, {"OPTIONS"}).update(map(str, handler.http_methods))
    return [_answering(path, ", ".join(sorted(taken))) for path, taken in methods.items()]


def _answering(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=[HttpMethod.OPTIONS], status_code=204, include_in_schema=False, opt={"always": True})
    async def options() -> Response[None]:
        return Response(None, headers={"Allow": allow})

    return options
