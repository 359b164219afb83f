"""How much a provider's client may use. Time is the router's; only connecting has a limit of its own."""

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection is open, TLS included."""

MAX_CONNECTIONS = 10_000
"""Connections of one client: one for each stream under way. The runs' own limit is reached long before."""

KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: long enough for the tools of a turn, shorter than the vendors' own limit."""

MAX_BODY = 32 * 1024 * 1024
"""Bytes of an answer that comes as one JSON document."""

DRAIN_TIME = 0.25
"""Seconds that a finished answer waits for the end of its body, so that the connection can serve the next call."""
