"""Where the nodes of the shown graph are drawn, and which of them lie on others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from personalize.tools.server.page import ComfyPage

Box = tuple[float, float, float, float]  # left, top, width, height

BOXES = """() => app.graph.nodes.map(({ id, pos, size }) => {
    const drawn = document.querySelector(`[data-node-id="${id}"]`)
    const width = Math.max(size[0], drawn?.offsetWidth ?? 0)
    const height = Math.max(size[1] + 30, drawn?.offsetHeight ?? 0)
    return [String(id), [pos[0], pos[1] - 30, width, height]]
})"""


def drawn_boxes(page: ComfyPage) -> dict[str, Box]:
    """Of each node, its title included, by id; Nodes 2.0 may draw it larger than its size."""
    return {node: tuple(box) for node, box in page.tab.evaluate(BOXES)}


def overlapping(boxes: Mapping[str, Box]) -> list[tuple[str, str]]:
    """The nodes, by id, of which one lies on the other."""

    def over(one: Box, other: Box) -> bool:
        (x, y, width, height), (x2, y2, width2, height2) = one, other
        return x < x2 + width2 and x2 < x + width and y < y2 + height2 and y2 < y + height

    return [(a, b) for a, b in combinations(boxes, 2) if over(boxes[a], boxes[b])]
