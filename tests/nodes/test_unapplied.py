"""Prompts whose CLIP or whose sampler's MODEL goes past Apply Concept are told when queued."""

import pytest
from personalize.concepts.cards import Card
from personalize.concepts.methods import CUSTOM_DIFFUSION, ELITE, TEXTUAL_INVERSION
from personalize.nodes import unapplied as module
from personalize.nodes.queued import Queued
from personalize.nodes.unapplied import PastModel, look_at, past_model, unapplied

pytestmark = pytest.mark.host


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def card(method, placeholder):
    return Card(method.key, method.title, "SD1", placeholder, "dog", placeholder, (), "sd1")


def workflow(clip, text="a photo of <my-dog>"):
    return {
        "base": node("CheckpointLoaderSimple", ckpt_name="<my-dog>"),
        "lora": node("LoraLoader", model=["base", 0], clip=["base", 1]),
        "train": node("PersonalizeTrainCrossInit", clip=["base", 1], placeholder=" <me> "),
        "apply": node("PersonalizeApplyConcept", clip=["lora", 1], concept=["train", 0]),
        "skip": node("CLIPSetLastLayer", clip=["apply", 1], stop_at_clip_layer=-2),
        "pipe": node("SomePipe", bundle=["base", 0]),
        "text": node("CLIPTextEncode", clip=[clip, 1], text=text),
    }


SAVED = {
    "rex": card(CUSTOM_DIFFUSION, "<my-dog>"),
    "word": card(TEXTUAL_INVERSION, "<my-dog>"),
    "face": card(ELITE, "<face>"),
}


def drawing(**changes):
    """A sampler that draws <my-dog> with the weights of "rex", a LoRA and a ControlNet."""
    nodes = {
        "base": node("CheckpointLoaderSimple", ckpt_name="a"),
        "load": node("PersonalizeLoadConcept", concept_name="rex", placeholder=""),
        "apply": node(
            "PersonalizeApplyConcept",
            model=["base", 0], clip=["base", 1], concept=["load", 0], strength=1.0,
        ),
        "lora": node("LoraLoaderModelOnly", model=["apply", 0]),
        "said": node("PrimitiveStringMultiline", value="<my-dog> at the sea"),
        "text": node("CLIPTextEncode", clip=["apply", 1], text=["said", 0]),
        "empty": node("CLIPTextEncode", clip=["base", 1], text=""),
        "pose": node("ControlNetApplyAdvanced", positive=["text", 0], negative=["empty", 0]),
        "draw": node("KSampler", model=["lora", 0], positive=["pose", 0], negative=["pose", 1]),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["base", 2]),
        "latent": node("VAEEncode", pixels=["decode", 0], vae=["base", 2]),
        "refine": node(
            "KSampler", model=["base", 0], positive=["empty", 0], latent_image=["latent", 0]
        ),
    }  # fmt: skip
    for name, inputs in changes.items():
        nodes[name]["inputs"] |= inputs
    return Queued(nodes)


PAST = {"lora": {"model": ["base", 0]}}
MISSING = [PastModel("draw", ("<my-dog>",))]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        (PAST, MISSING),
        (PAST | {"draw": {"model": ["base", 0]}}, MISSING),
        (PAST | {"load": {"concept_name": "word"}}, []),  # a word needs no weights
        (PAST | {"load": {"concept_name": "gone"}}, []),
        (PAST | {"load": {"concept_name": "face"}}, []),  # another word than the text's
        (
            PAST | {"load": {"concept_name": "face", "placeholder": "<my-dog>"}},
            MISSING,
        ),
        (PAST | {"apply": {"strength": 0}}, []),
        (PAST | {"said": {"value": "a dog at the sea"}}, []),
        ({"lora": {"model": ["base", 0], "pipe": ["base", 0]}}, MISSING),
        ({"lora": {"model": ["merged", 0]}}, []),  # nobody knows what comes from elsewhere
        ({"lora": {"model": None, "model1": ["apply", 0], "model2": ["base", 0]}}, []),
    ],
)
def test_a_model_that_comes_past_the_apply_concept_of_its_prompt(changes, told):
    assert list(past_model(drawing(**changes), lambda: SAVED)) == told


def test_a_concept_applied_to_both_models_is_missing_in_neither():
    queued = drawing(refine={"positive": ["text", 0]})
    assert list(past_model(queued, lambda: SAVED)) == [PastModel("refine", ("<my-dog>",))]
    there = node("PersonalizeApplyConcept", model=["base", 0], concept=["load", 0], strength=0.5)
    nodes = {**queued.nodes, "again": there}
    nodes["refine"]["inputs"]["model"] = ["again", 0]
    assert list(past_model(Queued(nodes), lambda: SAVED)) == []


def test_what_a_train_node_makes_is_known_before_it_has_run():
    def read():
        raise AssertionError("the shelf was read")

    for kind, told in (("CustomDiffusion", MISSING), ("CrossInit", [])):
        queued = drawing(**PAST)
        queued.nodes["load"] = node(f"PersonalizeTrain{kind}", placeholder="<my-dog>")
        assert list(past_model(queued, read)) == told


@pytest.mark.parametrize(
    ("clip", "text", "words"),
    [
        ("lora", "a photo of <my-dog>", ("<my-dog>",)),
        ("base", "<me:0.8> and <my-dog:pose2>, <me>", ("<me>", "<my-dog>")),
        ("base", "an <html> page and <lora:me:1>", ()),
        ("apply", "a photo of <my-dog>", ()),
        ("skip", "a photo of <my-dog>", ()),
        ("pipe", "a photo of <my-dog>", ()),
        ("missing", "a photo of <my-dog>", ()),
    ],
)
def test_words_whose_clip_comes_past_apply_concept(clip, text, words):
    found = list(unapplied(Queued(workflow(clip, text)), lambda: SAVED))
    assert [(one.node, one.words) for one in found] == ([("text", words)] if words else [])


def test_the_shelf_is_not_read_for_what_the_workflow_says_itself():
    def read():
        raise AssertionError("the shelf was read")

    (one,) = unapplied(Queued(workflow("base", "<me> person")), read)
    assert one.words == ("<me>",)
    assert not list(unapplied(Queued(workflow("base", "a dog")), read))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"1": {}},
        {"1": {"class_type": "CLIPTextEncode"}},
        {"1": node("CLIPTextEncode", clip=["1", 0], text="<me>")},
        {"1": node("KSampler", model=["1", 0], positive=["1", 0], clip=["1", 0], text="<me>")},
        {"1": {"class_type": 3, "inputs": {"clip": ["2", 0], "text": "<me>"}}, "2": None},
    ],
)
def test_a_prompt_that_the_host_will_refuse_is_left_to_it(odd):
    saved = {"me": card(CUSTOM_DIFFUSION, "<me>")}
    assert list(unapplied(Queued(odd), lambda: saved)) == []
    assert list(past_model(Queued(odd), lambda: saved)) == []


def test_the_log_and_the_page_are_told(monkeypatch, caplog):
    told = []
    monkeypatch.setattr(
        module, "tell_browsers", lambda event, news, page: told.append((event, news, page))
    )
    look_at(workflow("base"), "page-1", lambda: SAVED)
    news = {"node": "text", "text": "a photo of <my-dog>", "unknown": ("<my-dog>",)}
    assert told == [("personalize.unapplied", news, "page-1")]
    assert "prompt of node text: <my-dog> stays plain text" in caplog.text
    look_at(drawing(**PAST).nodes, "page-2", lambda: SAVED)
    news = {"node": "draw", "words": ("<my-dog>",)}
    assert told[1:] == [("personalize.past_model", news, "page-2")]
    assert "node draw: the weights of <my-dog> are missing" in caplog.text
