from app.tools import tool


@tool(risk="low", effect="read")
async def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b
