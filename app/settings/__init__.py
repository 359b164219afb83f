"""What the operator configured: defaults < steadyhand.toml < steadyhand.{APP_ENV}.toml < environment.

`load` is pure; `read_files` and `read_secrets` are the only functions here that touch a disk. Nothing is read at import.
"""

from app.settings.load import load, read_files
from app.settings.options import (
    BUILTIN_PROVIDERS,
    NOT_YET,
    AdmissionOptions,
    Breaker,
    Database,
    LimitOptions,
    Log,
    Redis,
    Safety,
    Secret,
    Server,
    Worker,
)
from app.settings.resolved import Budgets, Callbacks, Embeddings, Provider, Route, Settings, Target, Weighted
from app.settings.secrets import read_secrets, secrets_of

__all__ = [
    "BUILTIN_PROVIDERS",
    "NOT_YET",
    "AdmissionOptions",
    "Breaker",
    "Budgets",
    "Callbacks",
    "Database",
    "Embeddings",
    "LimitOptions",
    "Log",
    "Provider",
    "Redis",
    "Route",
    "Safety",
    "Secret",
    "Server",
    "Settings",
    "Target",
    "Weighted",
    "Worker",
    "load",
    "read_files",
    "read_secrets",
    "secrets_of",
]
