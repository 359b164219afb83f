"""Settings that work, and that somebody may regret: what `doctor` and `validate` warn of."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from app.settings import Settings

_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def insecure(settings: Settings, environ: Mapping[str, str], folders: Iterable[Path]) -> list[str]:
    """A sentence for each, without a secret. `.env` files are looked for in the folders; the bootstrap file's mode is looked at too."""
    server, found = settings.server, []
    if "*" in server.cors_origins:
        found.append(
            "server.cors_origins has *: every page that a user opens may call this service from their browser, once it needs a key"
        )
    wide = [network for network in server.trusted_proxies if ipaddress.ip_network(network).prefixlen == 0]
    if wide:
        found.append(f"server.trusted_proxies has {', '.join(wide)}: every client can say that it is another")
    if settings.log.level == "debug" and settings.profile != "development":
        found.append(f"log.level is debug in profile {settings.profile}")
    if environ.get(_CONTENT, "").lower() in ("true", "1"):
        found.append(f"{_CONTENT} is set: prompts, arguments and results are in spans")
    for name, provider in sorted(settings.providers.items()):
        if (
            provider.api_key
            and provider.base_url
            and provider.base_url.startswith("http://")
            and _far(provider.base_url)
        ):
            found.append(f"provider {name} gets its key over http://, which anybody on the way can read")
    for key, url in (("database.url", settings.database.url), ("redis.url", settings.redis.url)):
        if url and _far(url) and not _encrypted(url):
            found.append(f"{key} leads to another machine without TLS")
    paths = dict.fromkeys(folder.resolve() / ".env" for folder in folders)
    if settings.auth.bootstrap_key_file is not None:
        paths[Path(settings.auth.bootstrap_key_file).absolute()] = None
    return found + [
        f"{path} can be read by every user of this machine: chmod 600 it" for path in paths if _readable_by_all(path)
    ]


def _far(url: str) -> bool:
    """Whether what goes there leaves this machine, as far as the URL tells."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host not in ("", "localhost")


def _encrypted(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "rediss" or dict(parse_qsl(parts.query)).get("sslmode") in _ENCRYPTED


def _readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
