"""Workflows and schemas as two graders of node packs read them; neither knows all that ComfyUI has.

comfy-test reads saved workflows, comfy-lint prompts. What they do not know is written here in the
older way that they do know, so that all the rest is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from ..cli.workflows import ANY, GROWING, NOTES, ObjectInfo, SavedWorkflow, inputs_of, widgets

LITERALS = ("INT", "FLOAT", "STRING", "BOOLEAN")


def for_comfy_test(saved: SavedWorkflow, info: ObjectInfo) -> SavedWorkflow:
    """A copy without what its validation level takes for errors in any workflow.

    It takes notes for unknown nodes, counts neither combos nor `control_after_generate` among a
    node's values but texts that are sockets alone, and compares outputs of any type by name. Combos
    are comfy-lint's to check.
    """
    nodes = [deepcopy(node) for node in saved["nodes"] if node["type"] not in NOTES]
    by_id = {node["id"]: node for node in nodes}
    for node in nodes:
        node["widgets_values"] = list(_literals(node, info[node["type"]]))
    for _, source, output, target, slot, _ in saved["links"]:
        if info[by_id[source]["type"]]["output"][output] == ANY:
            by_id[target]["inputs"][slot]["type"] = "*"
    return {**saved, "nodes": nodes}


def _literals(node: dict[str, Any], schema: dict[str, Any]) -> Iterator[Any]:
    values = iter(node.get("widgets_values", []))
    own = {name: extra for name, _, extra in widgets(schema)}
    for name, kind, _ in inputs_of(schema):
        if name not in own:
            if kind in LITERALS:  # a socket and no widget, `force_input`: it counts a value for it
                yield ""
            continue
        value = next(values)
        for _ in own[name]:
            next(values)
        # of combos it knows the old spelling only: a list of choices in the type's place
        if isinstance(kind, list) or kind in LITERALS:
            yield value


def for_comfy_lint(info: ObjectInfo) -> dict[str, Any]:
    """The schemas with each growing input as what it grows to, and outputs of any type as `*`."""
    known = deepcopy(dict(info))
    for schema in known.values():
        schema["output"] = ["*" if kind == ANY else kind for kind in schema["output"]]
        for name, kind, options in inputs_of(schema):
            if kind == GROWING:
                _grow(schema["input"], name, options["template"])
    return known


def _grow(groups: dict[str, dict[str, Any]], name: str, template: dict[str, Any]) -> None:
    group = next(g for g in ("required", "optional") if name in groups.get(g, {}))
    del groups[group][name]
    (entry,) = (e for inputs in template["input"].values() for e in inputs.values())
    entry = ["*" if entry[0] == ANY else entry[0], *entry[1:]]
    numbered = (f"{template.get('prefix')}{n}" for n in range(template.get("max", 0)))
    for n, one in enumerate(template.get("names") or numbered):
        needed = group == "required" and n < template["min"]
        groups.setdefault("required" if needed else "optional", {})[f"{name}.{one}"] = entry
