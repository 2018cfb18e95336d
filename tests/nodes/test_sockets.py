"""What no browser sends, but the host's API lets through: a value of a wrong kind in any socket."""

from types import SimpleNamespace

import pytest
import torch
from comfy_api.latest import io
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.elite import EliteEncoder
from personalize.concepts.errors import PersonalizeError
from personalize.host.sam import SamModel
from personalize.nodes import NODE_CLASS_MAPPINGS, sockets
from personalize.nodes.sockets import KINDS, Node
from personalize.samplers.word_maps import LAYERS

pytestmark = pytest.mark.host

HELD = SimpleNamespace(
    **dict.fromkeys(
        ["model", "clone", "load_device", "patcher", "tokenize", "encode", "decode"], None
    )
)
GOOD = {
    **dict.fromkeys(["MODEL", "CLIP", "VAE", "CLIP_VISION"], HELD),
    "IMAGE": torch.zeros(1, 64, 64, 3),
    "MASK": torch.zeros(1, 64, 64),
    "LATENT": {"samples": torch.zeros(1, 4, 8, 8)},
    "CONCEPT": Concept(methods.ELITE, "sd1", 64, "<my-dog>"),
    "ELITE_ENCODER": object.__new__(EliteEncoder),
    "SAM_MODEL": object.__new__(SamModel),
}
"""Enough to pass for one."""

WIDGETS = {"STRING": "", "COMBO": next(iter(LAYERS)), "INT": 1, "FLOAT": 1.0, "BOOLEAN": False}
WRONG = ["a text", "", 5, 0.5, True, [], ["a", 0, 1], {"samples": "none"}, object(), None]
TOLD = "Expected .*(, got ).*[.] (Connect|Choose) .*[.]"


def inputs_of(node):
    """Its inputs by name, the first of those that grow among them."""
    found = {}
    for one in node.GET_SCHEMA().inputs:
        growing = isinstance(one, io.Autogrow.Input)
        found[one.id] = one.template.input if growing else one
    return found


def given(node, name=None, value=None):
    """Inputs as the host hands them over, one of them with another value."""
    schema, values = node.GET_SCHEMA(), {}
    for one in schema.inputs:
        growing = isinstance(one, io.Autogrow.Input)
        kind = (one.template.input if growing else one).get_io_type()
        entry = value if one.id == name else (GOOD | WIDGETS)[kind]
        entry = [entry] if schema.is_input_list else entry
        values[one.id] = {"concept0": entry} if growing else entry
    return values


def test_why_a_node_failed_is_shown_on_it(monkeypatch):
    told = []
    monkeypatch.setattr(sockets, "current_node", lambda: "12:7")
    monkeypatch.setattr(sockets, "show_on_node", lambda *a, **more: told.append((*a, more)))
    node = NODE_CLASS_MAPPINGS["PersonalizeSaveConcept"]
    with pytest.raises(PersonalizeError) as raised:
        node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**given(node, "concept", "a text"))
    assert told == [("12:7", str(raised.value), {"failed": True})]


def names_of(node, kinds):
    return [name for name, one in inputs_of(node).items() if one.get_io_type() in kinds]


every_node = pytest.mark.parametrize(
    "node", NODE_CLASS_MAPPINGS.values(), ids=list(NODE_CLASS_MAPPINGS)
)


def test_every_node_has_its_sockets_checked():
    for node in NODE_CLASS_MAPPINGS.values():
        assert issubclass(node, Node)
        kinds = {one.get_io_type() for one in inputs_of(node).values()}
        assert kinds <= KINDS.keys() | {"BOOLEAN"}


@every_node
def test_a_wrong_value_in_a_socket_is_told(node):
    clone = node.PREPARE_CLASS_CLONE(None)
    for name in names_of(node, GOOD):
        for wrong in WRONG:
            if wrong is None and inputs_of(node)[name].optional:
                assert name not in node.checked(given(node, name, None))
                continue
            with torch.inference_mode(), pytest.raises(PersonalizeError, match=TOLD) as caught:
                clone.EXECUTE_NORMALIZED(**given(node, name, wrong))
            assert f"at {inputs_of(node)[name].id}, got" in str(caught.value)


@every_node
def test_a_wrong_value_linked_to_a_widget_is_told(node):
    for name in names_of(node, ["STRING", "COMBO", "INT", "FLOAT"]):
        for wrong in (GOOD["IMAGE"], ["a", 0, 1], object()):
            with pytest.raises(PersonalizeError, match=TOLD):
                node.checked(given(node, name, wrong))


@every_node
def test_right_values_come_through_as_they_are(node):
    values = given(node)
    checked = node.checked(values)
    assert checked.keys() == values.keys()
    assert all(checked[name] is values[name] or checked[name] == values[name] for name in values)


def test_values_in_their_order_are_checked_as_well():
    """Programs that call a node without the host may give them so."""
    node = NODE_CLASS_MAPPINGS["PersonalizeApplyConcept"]
    with pytest.raises(PersonalizeError, match="a CONCEPT of this pack at concept, got 5"):
        node.execute(HELD, HELD, 5, strength=1.0)


def test_what_gets_nothing_counts_as_not_connected():
    node = NODE_CLASS_MAPPINGS["PersonalizeTrainELITE"]
    masks = [None, GOOD["MASK"], None]
    assert node.checked(given(node) | {"masks": masks})["masks"] == [GOOD["MASK"]]


def test_a_growing_socket_that_is_none():
    node = NODE_CLASS_MAPPINGS["PersonalizeCompare"]
    with pytest.raises(PersonalizeError, match="got the text 'both' as concepts"):
        node.checked(given(node) | {"concepts": "both"})
