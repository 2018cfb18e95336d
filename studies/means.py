"""Means over subjects, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of values; NaN of a single one, which says nothing of it."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
