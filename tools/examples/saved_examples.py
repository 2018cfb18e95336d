"""An example as the browser would save it, with inputs as the server describes its nodes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ...cli.workflows import ANY, ObjectInfo, SavedWorkflow, sockets, widgets
from .example import Example, Group, Node
from .notes import BACKGROUND, CHECKPOINT, CHECKPOINT_XL, SAM3

Schema = dict[str, Any]  # a node's entry in /api/object_info
ADDRESS = "https://huggingface.co/{}/resolve/main/{}"
MODELS: dict[Any, dict[str, str]] = {
    name: {"name": name, "url": ADDRESS.format(repository, path + name), "directory": directory}
    for name, repository, path, directory in (
        (CHECKPOINT, "Comfy-Org/stable-diffusion-v1-5-archive", "", "checkpoints"),
        (CHECKPOINT_XL, "stabilityai/stable-diffusion-xl-base-1.0", "", "checkpoints"),
        (SAM3, "Comfy-Org/sam3.1", "checkpoints/", "checkpoints"),
        (BACKGROUND, "Comfy-Org/BiRefNet", "background_removal/", "background_removal"),
    )
}
"""The host's own addresses, from its templates. For other files it has none."""

CODE, MARKUP = re.compile(r"`([^`]+)`"), re.compile(r"[<>*\\]")


def saved_workflow(example: Example, info: ObjectInfo) -> SavedWorkflow:
    """The example as the browser would save it."""
    links = _links(example, info)
    set_nodes = {k: _with_preset(node, info.get(node.kind)) for k, node in example.nodes.items()}
    told = {
        k: SimpleNamespace(**_named(n, info[n.kind]))
        for k, n in set_nodes.items()
        if n.kind in info
    }
    nodes = [
        _saved_node(number, _filled_in(node, told), info.get(node.kind), links)
        for number, node in enumerate(set_nodes.values(), start=1)
    ]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"personalize/{example.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [_saved_group(n, g) for n, g in enumerate(example.groups, start=1)],
        "config": {},
        "extra": {"ds": {"scale": 0.7, "offset": [60, 340]}},
        "version": 0.4,
    }


def _with_preset(node: Node, schema: Schema | None) -> Node:
    """A node with the values of the preset that it names, as the browser sets them."""
    if schema is None or "preset" not in node.widgets:
        return node
    presets = schema["input"]["optional"]["preset"][1]["presets"]
    return replace(node, widgets={**presets.get(node.widgets["preset"], {}), **node.widgets})


def _named(node: Node, schema: Schema) -> dict[str, Any]:
    """Values of a node's widgets by name."""
    return {name: node.widgets.get(name, default) for name, default, _ in widgets(schema)}


def _filled_in(node: Node, told: Mapping[str, Any]) -> Node:
    """A note with the values of the widgets that it speaks of."""
    if node.kind != "MarkdownNote":
        return node
    return replace(node, widgets={"text": node.widgets["text"].format(**told)})


def _links(example: Example, info: ObjectInfo) -> list[list[Any]]:
    """[link id, source id, output, target id, input slot, type] of every connection."""
    ids = {key: number for number, key in enumerate(example.nodes, start=1)}
    links: list[list[Any]] = []
    for key, node in example.nodes.items():
        for slot, (name, kind) in enumerate(_sockets(node, info.get(node.kind))):
            if name in node.links:
                source, output = node.links[name]
                links.append([len(links) + 1, ids[source], output, ids[key], slot, kind])
    return links


def _sockets(node: Node, schema: Schema | None) -> list[tuple[str, Any]]:
    if schema is None:
        return []
    return [(name, _type(node, kind)) for name, kind in sockets(schema, node.links)]


def _type(node: Node, kind: Any) -> Any:
    return node.carries if kind == ANY else kind


def _saved_node(
    number: int, node: Node, schema: Schema | None, links: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    into = {slot: link for link, _, _, target, slot, _ in links if target == number}
    packs = {"Perso": "personalize", "Minia": "personalize-miniature"}
    pack = packs.get(node.kind[:5], "comfy-core")
    outputs = zip(schema["output_name"], schema["output"], strict=True) if schema else ()
    saved = {
        "id": number,
        "type": node.kind,
        "pos": list(node.place),
        "size": list(node.size),
        "flags": {},
        "order": number - 1,
        "mode": 4 if node.bypassed else 0,
        "inputs": [
            {"name": name, "type": kind, "link": into.get(slot), **_of_widget(name, schema)}
            for slot, (name, kind) in enumerate(_sockets(node, schema))
        ],
        "outputs": [
            {
                "name": name,
                "type": _type(node, kind),
                "links": [n for n, *at in links if at[:2] == [number, out]],
            }
            for out, (name, kind) in enumerate(outputs)
        ],
        "properties": {"Node name for S&R": node.kind, "cnr_id": pack, **_hint(node)},
        "widgets_values": _values(node, schema),
    }
    if node.title:
        saved |= {"title": node.title, "color": "#432", "bgcolor": "#653"}
    return saved


def _of_widget(name: str, schema: Schema | None) -> dict[str, Any]:
    """A socket that sets a widget says which."""
    own = {one for one, _, _ in widgets(schema)} if schema else set()
    return {"widget": {"name": name}} if name in own else {}


def _hint(node: Node) -> dict[str, Any]:
    """Where the host may offer to download a file that is missing, as it does for its own."""
    found = [MODELS[value] for value in node.widgets.values() if value in MODELS]
    return {"models": found} if found else {}


def _values(node: Node, schema: Schema | None) -> list[Any]:
    if schema is None:  # a note, which the frontend alone knows
        return [legible(text) for text in node.widgets.values()]
    known = {name for name, _, _ in widgets(schema)}
    if not set(node.widgets) <= known:
        raise KeyError(f"{node.kind} has no widgets {set(node.widgets) - known}")
    values: list[Any] = []
    for name, default, extra in widgets(schema):
        values += [node.widgets.get(name, default), *extra]
    return values


def legible(note: str) -> str:
    """A note whose words in code font are bold: the frontend's code is blue on the notes' brown."""

    def bold(found: re.Match[str]) -> str:
        return "**" + MARKUP.sub(lambda mark: "\\" + mark[0], found[1]) + "**"

    return CODE.sub(bold, note)


def _saved_group(number: int, group: Group) -> dict[str, Any]:
    return {
        "id": number,
        "title": group.title,
        "bounding": list(group.bounds),
        "color": group.colour,
        "font_size": 24,
        "flags": {},
    }
