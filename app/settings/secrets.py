"""Secrets that are mounted as files, as Docker and Kubernetes do it: `NAME_FILE` leads to what `NAME` would hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from urllib.parse import parse_qsl, unquote, urlsplit

from app.domain.errors import ConfigError, ConfigProblem
from app.settings.layers import PREFIX, Variable, dotenv, environment
from app.settings.options import BUILTIN_PROVIDERS, CallbackOptions
from app.settings.resolved import Settings

MAX_BYTES = 65_536
SHORTEST = 8
"""Characters of the shortest secret that is looked for: a shorter one is found in too many words."""
NO_SECRETS = frozenset({"postgres", "password", "postgresql"})
"""Passwords that hide nothing, and words of our own."""
_NAMED = re.compile(r"""\b\w+_env\s*=\s*["']([A-Za-z_][A-Za-z0-9_]*)["']""")
_ALWAYS = frozenset(
    {"DATABASE_URL", "REDIS_URL", CallbackOptions().secret_env}
    | {table["api_key_env"] for table in BUILTIN_PROVIDERS.values() if "api_key_env" in table}
)


def read_secrets(environ: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold a secret and were given as a file: each with the file's text, without the space around it.

    Those are DATABASE_URL, REDIS_URL and every variable that a key ending in `_env` names. Raises ConfigError for a file that
    cannot be read, holds nothing or no text, and where the variable is set as well. No error ever holds a file's text.
    """
    variables = _variables(environ, files)
    found: dict[str, str] = {}
    problems: list[ConfigProblem] = []
    for name in sorted(_ALWAYS | _names(variables, files.values())):
        given = variables.get(f"{name}_FILE")
        if given is None or not given.text:
            continue
        if name in variables and variables[name].text:
            problems.append(
                ConfigProblem(given.where, f"{name}_FILE", f"{name} is set as well: only one of them can be")
            )
            continue
        text, why = _read(Path(given.text))
        if why:
            problems.append(ConfigProblem(given.where, f"{name}_FILE", f"{given.text} {why}"))
        found[name] = text
    if problems:
        raise ConfigError(problems)
    return found


def _variables(environ: Mapping[str, str], files: Mapping[str, str]) -> dict[str, Variable]:
    texts = [dotenv(name, text)[0] for name, text in files.items() if PurePath(name).name == ".env"]
    return environment(environ, texts)


def _names(variables: Mapping[str, Variable], texts: Iterable[str]) -> set[str]:
    """The variables that settings name as the place of a secret."""
    named = {name for text in texts for name in _NAMED.findall(text)}
    ours = {
        v.text for name, v in variables.items() if name.upper().startswith(PREFIX) and name.upper().endswith("_ENV")
    }
    return named | ours - {""}


def _read(path: Path) -> tuple[str, str]:
    """What the file holds, and what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode().strip()
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "", "is not text"
    if len(data) > MAX_BYTES:
        return "", f"has more than {MAX_BYTES} bytes"
    if not text or "\x00" in text:
        return "", "holds nothing" if not text else "is not text"
    return text, ""


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> frozenset[str]:
    """What nobody may read: every key, and the passwords inside URLs, those of proxies and the headers of OTLP included."""
    found: set[str] = {provider.api_key for provider in settings.providers.values() if provider.api_key}
    found.add(settings.callbacks.secret or "")
    urls: list[str | None] = [settings.database.url, settings.database.direct_url, settings.redis.url]
    urls += [text for name, text in environ.items() if name.upper().endswith("_PROXY")]
    for url in urls:
        found |= passwords(url or "")
    for name, text in environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS"):
            found |= {word for part in text.split(",") for word in unquote(part.partition("=")[2]).split()}
    return frozenset(str(secret) for secret in found if len(secret) >= SHORTEST and secret not in NO_SECRETS)


def passwords(url: str) -> set[str]:
    """The passwords that a URL holds, as they are written and as they are meant."""
    try:
        parts = urlsplit(url)
        written = {parts.password or ""} | {value for name, value in parse_qsl(parts.query) if name == "password"}
    except ValueError:
        return set()
    return {form for password in written for form in (password, unquote(password)) if form}
