"""Which file of tests goes first, when several processes share them out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

# Seconds of a test with this mark, about; without any, a fraction of one.
COSTS = {"slow": 15.0, "browser": 7.0, "server": 2.0}
COST_OF_OTHERS = 0.3


def cost(item: Any) -> float:
    """Of a test, by the dearest of its marks."""
    return max((COSTS.get(mark.name, 0.0) for mark in item.iter_markers()), default=0.0) or (
        COST_OF_OTHERS
    )


def dearest_first(items: list[Any]) -> list[Any]:
    """Files of tests in the order of their costs, their tests in the order they had.

    A file with many tests is no dear one: by number, as pytest-xdist has them, the few tests of the
    fuzzer and the browser come last of all, and one process ends minutes after the others.
    """
    costs: dict[Path, float] = defaultdict(float)
    for item in items:
        costs[item.path] += cost(item)
    return sorted(items, key=lambda item: -costs[item.path])
