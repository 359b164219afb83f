"""Request bodies: bytes to a Struct, strictly, or a problem that tells the caller what to do."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.exceptions import InternalServerException
from litestar.types import Empty

from app.api.aside import Aside
from app.api.nesting import MAX_CONTAINERS, nested_wrongly
from app.domain.errors import FieldError, RequestError
from app.domain.numbers import number

_AT = re.compile(r"(?P<message>.*?)(?: - at `(?P<path>key in )?\$?\.?(?P<at>[^`]*)`)?", re.DOTALL)
_NUL = b"\\u0000"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_FIELD = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<name>[^`]*)`")
CONTAINERS: Final = "containers"
"""The key of a handler's `opt` that says how many arrays and objects its body may have, where that is not as many as any."""


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded straight into the type that its handler names `data`."""

    async def body(self) -> bytes:
        """The body, empty only where the handler's type allows that there is none.

        Raises `RequestError` malformed_json where one is missing, litestar's 413 where it is too large.
        """
        try:
            body = await super().body()
        except InternalServerException:  # what litestar says of a client that left, or broke the framing, half way
            raise RequestError("malformed_json", "The body was not sent whole.") from None
        wanted = None if body else self.route_handler.parsed_fn_signature.parameters.get("data")
        if wanted is not None and not wanted.is_optional:
            raise RequestError("malformed_json", "The body is empty: send a JSON object.")
        return body

    async def json(self) -> Any:
        """The body as the handler's type. Raises `RequestError`."""
        if self._json is Empty:
            media_type, _ = self.content_type
            if media_type != RequestEncodingType.JSON.value and not media_type.endswith("+json"):
                raise RequestError("unsupported_media_type", "Send the body as application/json.")
            if self.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise RequestError("unsupported_media_type", "Send the body as it is, without a Content-Encoding.")
            body = await self.body()
            aside: Aside = self.app.state.aside
            self._json = self._connection_state.json = await aside.run(len(body), partial(self._decoded, body))
        return self._json

    def _decoded(self, body: bytes) -> Any:
        handler = self.route_handler
        wanted = handler.parsed_fn_signature.parameters["data"].annotation
        return decode_body(body, wanted, containers=handler.opt.get(CONTAINERS, MAX_CONTAINERS))


def decode_body(body: bytes, wanted: Any, what: str = "The body", containers: int = MAX_CONTAINERS) -> Any:
    """The body as `wanted`, called `what`. Raises `RequestError`: malformed_json, invalid_encoding or validation_error.

    The time that it takes grows with the bytes and with nothing else: how they are nested is looked at first, in few passes.
    """
    if (wrong := nested_wrongly(body, containers)) is not None:
        raise _wrong(what, "", wrong)
    try:
        value = _decoder(wanted).decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, what) from None
    except msgspec.DecodeError as error:
        surrogate = " A lone surrogate (\\ud800 to \\udfff) is no character." if _SURROGATE.search(body) else ""
        raise RequestError("malformed_json", f"{what} is not JSON: {error}.{surrogate}") from None
    except UnicodeDecodeError:
        raise RequestError("invalid_encoding", f"{what} is not UTF-8.") from None
    if _NUL in body and _NUL in body.replace(b"\\\\", b""):  # behind an escaped backslash it is text about NUL
        raise _wrong(what, "", "holds a NUL character (U+0000), which no text may have")
    return value


@lru_cache(maxsize=64)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted, float_hook=number)


def _invalid(error: msgspec.ValidationError, what: str) -> RequestError:
    match = _AT.fullmatch(str(error))
    assert match is not None
    at, message = match["at"] or "", match["message"]
    field = _FIELD.fullmatch(message)
    if field is not None:
        at = f"{at}.{field['name']}" if at else field["name"]
        message = "unknown field" if field["what"] == "contains unknown" else "missing"
    return _wrong(what, at, message)


def _wrong(what: str, path: str, message: str) -> RequestError:
    where = f"`{path}`" if path else what
    return RequestError("validation_error", f"{where}: {message}.", [FieldError(path, message)])
