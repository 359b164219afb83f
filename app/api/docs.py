"""The API's description, and a page to read and try it that needs nothing from the internet."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License, Server, Tag

from app.api.authentication import PUBLIC, SCOPE, scopes_of
from app.api.document import published

DESCRIPTION = (
    "Serves LLM agents over JSON and server-sent events. Every response carries `X-Request-Id`; everything that goes wrong "
    "is an `application/problem+json` with a stable `code`.\n\n"
    "Once a service has an API key every call needs one: `Authorization: Bearer KEY` or `X-API-Key: KEY`; a token of a trusted "
    "issuer does as well. `x-scope` of an operation is the scope that the key must have.\n\n"
    "`/ws` is a WebSocket for any number of runs at once. Frames are JSON objects with a `type`: in go `auth` {token}, `run` "
    "{input or message, agent, session_id, user_id, context, tags, timeout, on_busy, idempotency_key}, `subscribe` {run_id, after}, "
    "`unsubscribe` {run_id}, `cancel` {run_id, reason} and `ping`; out come `event` {run_id, event, id, data}, `error` {problem}, "
    "`ping` and `pong`. A command with a `ref` is answered by an `ack` with the same one, and its events and errors have it too."
)


_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def page_headers(content: bytes) -> dict[str, str]:
    """What the page goes out with: the scripts that are in it run, and no other that somebody brings into it."""
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _SCRIPT.findall(content))
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


@get("/docs", media_type=MediaType.HTML, include_in_schema=False, opt={SCOPE: PUBLIC})
async def page() -> Response[bytes]:
    """The page; it fetches the description itself, and nothing from anywhere else."""
    content = files("app.api").joinpath("docs.html").read_bytes()
    return Response(content, media_type=MediaType.HTML, headers=page_headers(content))


class Document(JsonRenderPlugin):
    """The document."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document as it is published."""
        return msgspec.json.encode(published(request.app.openapi_schema.to_schema(), scopes_of(request.app)))


def openapi_config(version: str, root_path: str = "") -> OpenAPIConfig:
    """OpenAPI 3.1 at /openapi.json, the page at /docs. `root_path`: where the world sees the service."""
    return OpenAPIConfig(
        title="Steadyhand",
        version=version,
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[Server(url=root_path or "/", description="This server")],
        tags=[
            Tag(name="chat", description="Ask, and get the answer whole or as a stream"),
            Tag(name="agents", description="The agents of this service"),
            Tag(name="models", description="The models behind the agents"),
            Tag(name="prompts", description="The prompts of the agents, by version"),
            Tag(name="runs", description="What was asked, what happened, what came of it"),
            Tag(name="batches", description="Many calls at half the price, for answers within a day or two"),
            Tag(name="approvals", description="Calls that wait for a person's word"),
            Tag(name="sessions", description="Conversations"),
            Tag(name="audit", description="Who decided what, about what, when"),
            Tag(name="usage", description="What was used, and what it cost"),
            Tag(name="cache", description="Answers that are given again"),
            Tag(name="controls", description="The kill switch: agents, tools and tenants, off and on"),
            Tag(name="health", description="For load balancers and monitoring"),
        ],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, method, path: str(handler.handler_name),
        # Not "/": litestar answers what it does not know below this path, and in HTML.
        openapi_router=Router("/openapi.json", route_handlers=[], include_in_schema=False, opt={SCOPE: PUBLIC}),
        render_plugins=[Document(path="/")],
    )


HANDLERS = [page]
