"""Saved workflows (what the browser writes) as prompts in the API format (what the server runs)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .client import Workflow

SavedWorkflow = dict[str, Any]  # the browser's format: nodes, links, groups, ...
ObjectInfo = Mapping[str, Any]  # schemas of all nodes, from /api/object_info

NOTES = ("Note", "MarkdownNote")
GROWING, ANY = "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"
_BOX = "BOUNDING_BOX"
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", _BOX)
_MUTED, _BYPASSED = 2, 4


class WorkflowError(ValueError):
    """A saved workflow that does not fit the nodes' schemas."""


def to_api(saved: SavedWorkflow, info: ObjectInfo) -> Workflow:
    """The prompt that the browser would send.

    Node ids are kept; notes and muted nodes are left out, and so are connections that come from
    nowhere then. What goes into a bypassed one comes out.

    Raises WorkflowError for an unknown node and for widget values that do not fit the schema.
    """
    sources = _sources(saved)
    prompt: Workflow = {}
    for node in saved["nodes"]:
        if node["type"] in NOTES or node.get("mode", 0) in (_MUTED, _BYPASSED):
            continue
        if node["type"] not in info:
            raise WorkflowError(f"{node['type']}: no such node.")
        inputs = _widget_values(node, info[node["type"]])
        for slot in node.get("inputs", []):
            source = sources.get(slot.get("link"))
            if source is not None:
                inputs[slot["name"]] = source
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _sources(saved: SavedWorkflow) -> dict[int, list[Any]]:
    """Node and output that each link comes from, by the link's id; none for one from nowhere."""
    muted = {node["id"] for node in saved["nodes"] if node.get("mode", 0) == _MUTED}
    through = {
        (node["id"], number): next(
            (slot["link"] for slot in node["inputs"] if slot["type"] == output["type"]), None
        )
        for node in saved["nodes"]
        if node.get("mode", 0) == _BYPASSED
        for number, output in enumerate(node["outputs"])
    }
    links = {link[0]: (link[1], link[2]) for link in saved["links"]}

    def source(link: int | None) -> list[Any] | None:
        if link is None:
            return None
        node, output = links[link]
        if (node, output) in through:
            return source(through[node, output])
        return None if node in muted else [str(node), output]

    return {link: found for link in links if (found := source(link)) is not None}


def _widget_values(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    values = list(node.get("widgets_values", []))
    expected = [(name, extra) for name, _, extra in widgets(schema)]
    if len(values) != sum(1 + len(extra) for _, extra in expected):
        names = ", ".join(name for name, _ in expected)
        raise WorkflowError(f"{node['type']} has {len(values)} widget values for: {names}.")
    inputs: dict[str, Any] = {}
    for name, extra in expected:
        inputs[name] = values.pop(0)
        del values[: len(extra)]
    return inputs


def widgets(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Name, default and the browser's own extra values of every input with a widget, in order."""
    for name, kind, options in inputs_of(schema):
        if not is_widget(kind, options):
            continue
        listed = kind if isinstance(kind, list) else options.get("options", [])
        default = options.get("default", listed[0] if listed else "")
        if options.get("control_after_generate"):
            yield name, default, ["fixed"]
        elif options.get("image_upload"):
            yield name, default, ["image"]
        elif kind == _BOX and default:
            yield name, default, list(default.values())  # its four numbers have fields, too
        else:
            yield name, default, []


def inputs_of(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, type and options of every input, required ones first."""
    for group in ("required", "optional"):
        for name in schema["input_order"].get(group, []):
            entry = schema["input"][group][name]
            yield name, entry[0], entry[1] if len(entry) > 1 else {}


def preset_fields(schema: Mapping[str, Any]) -> set[str]:
    """Names of the inputs that a preset of the node sets."""
    presets = (options.get("presets", {}) for _, _, options in inputs_of(schema))
    return {name for one in presets for values in one.values() for name in values}


def sockets(schema: Mapping[str, Any], linked: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Name and type of every input that is a socket; of one that grows, as many as are linked. Then
    the widgets that have a connection.

    linked: names of the inputs that have a connection, such as `inputs.input0` of Create List
    """
    connected = []
    for name, kind, options in inputs_of(schema):
        if kind == GROWING:
            yield from ((one, ANY) for one in linked if one.startswith(f"{name}."))
        elif not is_widget(kind, options):
            yield name, kind
        elif name in linked:
            connected.append((name, "COMBO" if isinstance(kind, list) else kind))
    yield from connected


def is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    """Is such an input set in the node itself? Others are sockets."""
    return (isinstance(kind, list) or kind in _WIDGETS) and not options.get("forceInput")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt; an input is a value, or [key of a node, number of its output]."""
    return {"class_type": class_type, "inputs": inputs}


def node_list(sources: Sequence[list[Any]]) -> dict[str, Any]:
    """Create List of what several nodes give, so that sizes may differ."""
    return node("CreateList", **{f"inputs.input{n}": source for n, source in enumerate(sources)})


def nodes_of_type(prompt: Workflow, class_type: str) -> list[str]:
    """Ids of a prompt's nodes of one type."""
    return [key for key, node in prompt.items() if node["class_type"] == class_type]


def set_inputs(prompt: Workflow, class_type: str, **inputs: Any) -> None:
    """Change inputs of all nodes of one type that the prompt has."""
    keys = nodes_of_type(prompt, class_type)
    if not keys:
        raise WorkflowError(f"The workflow has no {class_type}.")
    for key in keys:
        prompt[key]["inputs"].update(inputs)
