"""An example workflow before it is saved: nodes by key, their places, and what is set on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Source = tuple[str, int]  # key of a node, number of its output


@dataclass(frozen=True)
class Node:
    """A node of an example: its place, its connections, and widgets unlike their default."""

    kind: str
    place: tuple[int, int]
    size: tuple[int, int]
    links: dict[str, Source] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    carries: str = ""


@dataclass(frozen=True)
class Group:
    title: str
    bounds: tuple[int, int, int, int]
    colour: str


@dataclass(frozen=True)
class Example:
    name: str
    nodes: dict[str, Node]
    groups: Sequence[Group]
