"""What agents can do. A workspace's tool file needs only `tool` and, for more than arguments, `ToolContext`."""

from app.domain.tools import ToolContext
from app.tools.declare import tool

__all__ = ["ToolContext", "tool"]
