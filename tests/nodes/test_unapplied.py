"""Prompts that go past Apply Concept are told when they are queued."""

import pytest
from personalize.nodes import unapplied as module
from personalize.nodes.unapplied import look_at, unapplied

pytestmark = pytest.mark.host


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


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


SAVED = {"<my-dog>"}


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
    found = list(unapplied(workflow(clip, text), lambda: SAVED))
    assert [(one.node, one.words) for one in found] == ([("text", words)] if words else [])


def test_the_shelf_is_not_read_for_what_the_workflow_says_itself():
    def read():
        raise AssertionError("the shelf was read")

    (one,) = unapplied(workflow("base", "<me> person"), read)
    assert one.words == ("<me>",)
    assert not list(unapplied(workflow("base", "a dog"), read))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"1": {}},
        {"1": {"class_type": "CLIPTextEncode"}},
        {"1": node("CLIPTextEncode", clip=["1", 0], text="<me>")},
        {"1": {"class_type": 3, "inputs": {"clip": ["2", 0], "text": "<me>"}}, "2": None},
    ],
)
def test_a_prompt_that_the_host_will_refuse_is_left_to_it(odd):
    assert list(unapplied(odd, lambda: {"<me>"})) == []


def test_the_log_and_the_page_are_told(monkeypatch, caplog):
    told = []
    monkeypatch.setattr(
        module, "tell_browsers", lambda event, news, page: told.append((event, news, page))
    )
    look_at(workflow("base"), "page-1", lambda: SAVED)
    news = {"node": "text", "text": "a photo of <my-dog>", "unknown": ("<my-dog>",)}
    assert told == [("personalize.unapplied", news, "page-1")]
    assert "prompt of node text: <my-dog> stays plain text" in caplog.text
