"""What the graders of node packs are given to read."""

import json

from personalize.cli.workflows import ANY, GROWING
from personalize.tools.graders_read import for_comfy_lint, for_comfy_test


def schema(output=(), **required):
    return {
        "input": {"required": required},
        "input_order": {"required": list(required)},
        "output": list(output),
    }


GROWN = {"input": {"required": {"input": [ANY, {}]}}, "prefix": "input", "min": 1, "max": 3}
INFO = {
    "Sampler": schema(
        ["LATENT"],
        seed=["INT", {"control_after_generate": True}],
        sampler=["COMBO", {"options": ["euler"]}],
        scheduler=[["normal"], {}],
        steps=["INT", {}],
    ),
    "List": schema([ANY], inputs=[GROWING, {"template": GROWN}]),
    "Save": schema(images=["IMAGE", {}]),
}
SAVED = {
    "nodes": [
        {"id": 1, "type": "MarkdownNote", "widgets_values": ["Start here."]},
        {"id": 2, "type": "Sampler", "widgets_values": [7, "fixed", "euler", "normal", 20]},
        {"id": 3, "type": "List"},
        {"id": 4, "type": "Save", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
    ],
    "links": [[1, 3, 0, 4, 0, "IMAGE"]],
}


def test_values_that_comfy_test_counts_keep_their_order():
    before = json.dumps(SAVED)
    nodes = {node["type"]: node for node in for_comfy_test(SAVED, INFO)["nodes"]}
    assert json.dumps(SAVED) == before
    assert "MarkdownNote" not in nodes
    assert nodes["Sampler"]["widgets_values"] == [7, "normal", 20]
    assert nodes["Save"]["inputs"][0]["type"] == "*"  # the list has its type from what goes in


def test_growing_inputs_are_written_out_for_comfy_lint():
    before = json.dumps(INFO)
    known = for_comfy_lint(INFO)
    assert json.dumps(INFO) == before
    assert known["List"]["input"] == {
        "required": {"inputs.input0": ["*", {}]},
        "optional": {"inputs.input1": ["*", {}], "inputs.input2": ["*", {}]},
    }
    assert known["List"]["output"] == ["*"]
    assert known["Sampler"] == INFO["Sampler"] and known["Save"] == INFO["Save"]


def test_named_inputs_grow_by_their_names():
    template = {"input": {"required": {"value": ["FLOAT", {}]}}, "names": ["a", "b"], "min": 0}
    known = for_comfy_lint({"Sum": schema(values=[GROWING, {"template": template}])})
    assert known["Sum"]["input"] == {
        "required": {},
        "optional": {"values.a": ["FLOAT", {}], "values.b": ["FLOAT", {}]},
    }
