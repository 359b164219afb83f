"""Tools of the agent `orders`. Replace the table by calls to your own system.

`returns="trusted"` says that nobody outside can have written what a tool gives back. Leave it out where that is not so (mails,
pages, notes of customers): after reading such words no tool above low runs without a person.
"""

from app.tools import tool

ORDERS = {
    "A-1001": {"item": "espresso machine", "status": "shipped"},
    "A-1002": {"item": "coffee grinder", "status": "open"},
}


@tool(risk="low", effect="read", timeout=5, returns="trusted")
async def find_order(order_id: str) -> dict[str, str]:
    """Find an order by its number, such as A-1001. Gives its item and status."""
    if order_id not in ORDERS:
        raise ValueError(f"there is no order {order_id}")
    return ORDERS[order_id]


@tool(risk="medium", effect="idempotent", timeout=10, returns="trusted")
async def cancel_order(order_id: str, reason: str = "") -> dict[str, str]:
    """Cancel an order that is still open. Cancelling it again changes nothing."""
    order = await find_order(order_id)
    if order["status"] not in ("open", "cancelled"):
        raise ValueError(f"order {order_id} is {order['status']} and cannot be cancelled")
    order["status"] = "cancelled"
    order["reason"] = reason
    return order
