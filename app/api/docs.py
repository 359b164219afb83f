"""The API's description, and a page to read and try it that needs nothing from the internet."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import License, Server, Tag

DESCRIPTION = (
    "Serves LLM agents over JSON and server-sent events. Every response carries `X-Request-Id`; everything that goes wrong "
    "is an `application/problem+json` with a stable `code`."
)


class Page(OpenAPIRenderPlugin):
    """The page at /docs."""

    def __init__(self) -> None:
        super().__init__(path="/docs", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page; it fetches the description itself."""
        return files("app.api").joinpath("docs.html").read_bytes()


def openapi_config(version: str) -> OpenAPIConfig:
    """OpenAPI 3.1 at /openapi.json, the page at /docs."""
    return OpenAPIConfig(
        title="Steadyhand",
        version=version,
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[Server(url="/", description="This server")],
        tags=[
            Tag(name="chat", description="Ask, and get the answer whole or as a stream"),
            Tag(name="agents", description="The agents of this service"),
            Tag(name="runs", description="What was asked, what happened, what came of it"),
            Tag(name="sessions", description="Conversations"),
            Tag(name="health", description="For load balancers and monitoring"),
        ],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, method, path: str(handler.handler_name),
        path="/",
        render_plugins=[JsonRenderPlugin(path="/openapi.json"), Page()],
    )
