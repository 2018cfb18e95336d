"""A template before it is saved: columns of nodes by key, what is set on them, and the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Source = tuple[str, int]  # key of a node, number of its output
Stack = Mapping[str, "Node"]  # nodes by key, from top to bottom


@dataclass(frozen=True)
class Node:
    """A node of a template: its connections, and widgets unlike their default.

    stands_in: what the miniature takes in the place of its outputs; needs_models: the miniature
        leaves it out, because it has no such model
    bypassed: what goes into it comes out of it, until its user switches it on
    place, size: set by the layout
    """

    kind: str
    links: dict[str, Source] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    carries: str = ""
    stands_in: Source | None = None
    needs_models: bool = False
    bypassed: bool = False
    place: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Column:
    """A group: a note above stacks of nodes that stand side by side.

    note: `{train.steps}` in it is the widget `steps` of the node with the key `train`
    """

    title: str
    colour: str
    note: str
    stacks: Sequence[Stack]
    widths: Sequence[int]


@dataclass(frozen=True)
class Draft:
    """A template without places.

    shown_by: the template whose thumbnail it has and whose miniature stands for it, if another
    """

    name: str
    columns: Sequence[Column]
    shown_by: str = ""

    @property
    def nodes(self) -> dict[str, Node]:
        return {
            key: node
            for column in self.columns
            for stack in column.stacks
            for key, node in stack.items()
        }


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


GAP, TITLE, MARGIN, HEAD = 20, 30, 20, 50  # HEAD: of a group, with its title
BETWEEN = 40  # groups

HEIGHTS = {
    "CheckpointLoaderSimple": 105,
    "LoadImage": 330,
    "CLIPVisionLoader": 65,
    "LoadImageTextDataSetFromFolder": 110,
    "PersonalizeTrainCrossInit": 640,
    "PersonalizeTrainCatVersion": 600,
    "PersonalizeTrainCustomDiffusion": 656,
    "PersonalizeTrainTextualInversion": 620,
    "PersonalizeTrainDETEX": 680,
    "PersonalizeSaveConcept": 270,
    "PersonalizeApplyConcept": 265,
    "PersonalizeLoadConcept": 215,
    "CLIPTextEncode": 120,
    "EmptyLatentImage": 120,
    "KSampler": 265,
    "VAEDecode": 55,
    "VAEEncode": 55,
    "SaveImage": 380,
    "PersonalizeLoadELITE": 115,
    "PersonalizeEncodeELITE": 270,
    "PersonalizeLoadSAM": 90,
    "PersonalizeSegmentSubject": 650,
    "PersonalizeCompare": 650,
    "PersonalizeEvaluate": 480,
    "ImageScale": 150,
    "ConditioningSetAreaPercentage": 175,
    "ConditioningCombine": 55,
    "CreateList": 150,
    "LoadBackgroundRemovalModel": 65,
    "RemoveBackground": 55,
    "SAM3_Detect": 220,
    "CropByBBoxes": 200,
    "ImageCropV2": 415,
    "PrimitiveStringMultiline": 110,
    "MiniatureSubject": 185,
    "MiniatureLoadVision": 90,
}
"""As high as the taller renderer draws them after a run, without their title; the browser tests
measure it."""

GROWTH = {"PersonalizeCompare": 232}
"""How much higher Nodes 2.0 draws a node that has a text area and shows a picture, since frontend
1.58 at the latest, than the size that was saved."""

LINE, LETTER = 22, 7.4  # pixels of a line of a note, and of a letter of it


def laid_out(draft: Draft) -> Example:
    """Columns from left to right, each with its note on top; stacks begin under the note."""
    nodes: dict[str, Node] = {}
    groups = []
    left = 0
    for number, column in enumerate(draft.columns, start=1):
        title = f"{number}. {column.title}"
        width = sum(column.widths) + GAP * (len(column.widths) - 1)
        note = Node("MarkdownNote", widgets={"text": column.note}, title=title)
        size = (width, note_height(column.note, width))
        nodes[f"note{number}"] = replace(note, place=(left, HEAD), size=size)
        top = HEAD + size[1] + GAP + TITLE
        bottom = top
        at = left
        for stack, wide in zip(column.stacks, column.widths, strict=True):
            y = top
            for key, node in stack.items():
                high = HEIGHTS[node.kind]
                nodes[key] = replace(node, place=(at, y), size=(wide, high))
                y += high + GROWTH.get(node.kind, 0) + GAP + TITLE
            bottom = max(bottom, y - GAP - TITLE)
            at += wide + GAP
        bounds = (left - MARGIN, -MARGIN, width + 2 * MARGIN, bottom + 2 * MARGIN)
        groups.append(Group(title, bounds, column.colour))
        left += width + 2 * MARGIN + BETWEEN
    return Example(draft.name, nodes, groups)


def note_height(text: str, width: int) -> int:
    """Pixels that a note needs: its wrapped lines, and half a line between paragraphs."""
    letters = int((width - 40) / LETTER)
    lines = sum(max(1, -(-len(line) // letters)) if line else 0.5 for line in text.splitlines())
    return round(lines * LINE) + 50
