"""Request bodies: bytes to a Struct, strictly, or a problem that tells the caller what to do."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.exceptions import InternalServerException
from litestar.types import Empty

from app.domain.errors import FieldError, RequestError

_AT = re.compile(r"(?P<message>.*?)(?: - at `(?P<path>key in )?\$?\.?(?P<at>[^`]*)`)?", re.DOTALL)
_NUL = re.compile(rb"\x00|\\u0000")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_FIELD = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<name>[^`]*)`")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKETS = re.compile(rb"[^][{}]+")
_PAIR = re.compile(rb"\[\]|\{\}")
MAX_DEPTH = 100
"""How deep arrays and objects may stand in each other: far below what any layer of ours can take."""


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
            wanted = self.route_handler.parsed_fn_signature.parameters["data"].annotation
            self._json = self._connection_state.json = decode_body(await self.body(), wanted)
        return self._json


def decode_body(body: bytes, wanted: Any, what: str = "The body") -> Any:
    """The body as `wanted`, called `what`. Raises `RequestError`: malformed_json, invalid_encoding or validation_error."""
    try:
        value = _decoder(wanted).decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, what) from None
    except msgspec.DecodeError as error:
        surrogate = " A lone surrogate (\\ud800 to \\udfff) is no character." if _SURROGATE.search(body) else ""
        raise RequestError("malformed_json", f"{what} is not JSON: {error}.{surrogate}") from None
    except UnicodeDecodeError:
        raise RequestError("invalid_encoding", f"{what} is not UTF-8.") from None
    except RecursionError:
        raise _wrong(what, "", "is nested too deeply") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise _wrong(what, "", f"is nested more than {MAX_DEPTH} levels deep")
    if _NUL.search(body) and _has_nul(value):
        raise _wrong(what, "", "holds a NUL character (U+0000), which no text may have")
    return value


@lru_cache(maxsize=64)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


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


def _depth(body: bytes) -> int:
    """The deepest nesting of valid JSON, counted as far as it may be: each pass takes away whatever holds nothing."""
    shape, depth = _NO_BRACKETS.sub(b"", _STRING.sub(b"", body)), 0
    while shape and depth <= MAX_DEPTH:
        shape, depth = _PAIR.sub(b"", shape), depth + 1
    return depth


def _has_nul(value: Any) -> bool:
    """Whether any string in there has a NUL: an escaped backslash before `u0000` is none."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(_has_nul(item) for item in value)
    if isinstance(value, msgspec.Struct):
        return any(_has_nul(getattr(value, name)) for name in value.__struct_fields__)
    return False
