"""How a bounded place is shared by tenants: whoever fills it does not shut out those who have little in it."""

from __future__ import annotations


def has_room(most: int, total: int, own: int) -> bool:
    """Whether a tenant that has `own` of `total` may have one more.

    A full place still takes a hundredth of `most` of each tenant, and one at least: so there are `most` and a hundredth for each
    tenant at the worst.
    """
    return total < most or own < max(1, most // 100)
