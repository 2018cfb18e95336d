"""What is told of the placeholders of a prompt: to the log, and to the page that queued it."""

import logging

import pytest
from personalize.samplers import prompt_report
from personalize.samplers.apply import apply_concept
from personalize.samplers.prompt_report import report_on
from personalize.tests.stock import assert_same, encode, make_concept

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


def test_words_are_recognised_or_unknown_with_the_nearest():
    applied = ["<me>", "<my-dog>", "<my-dog:pose1>"]
    report = report_on("<me> with <my-dgo>, <my-dog:pose2>, <me:0.8> and <x1>", applied)
    assert report.recognised == ("<me>",)
    assert report.unknown == (
        ("<my-dgo>", "<my-dog>"),
        ("<my-dog:pose2>", "<my-dog:pose1>"),
        ("<x1>", ""),
    )
    assert report.sentence() == (
        "<me> recognised; <my-dgo> is no concept that is applied here and stays plain text, did "
        "you mean <my-dog>?; <my-dog:pose2> is no concept that is applied here and stays plain "
        "text, did you mean <my-dog:pose1>?; <x1> is no concept that is applied here and stays "
        "plain text; applied here: <me>, <my-dog>, <my-dog:pose1>"
    )


def test_comparisons_are_no_placeholders_and_near_spellings_are():
    assert report_on("a < b > c", ["<me>"]).unknown == ()
    assert report_on("< My-Dog > and <My-Dog>", ["<my-dog>"]).unknown == (("<My-Dog>", "<my-dog>"),)


@pytest.fixture
def told(monkeypatch):
    events = []
    monkeypatch.setattr(
        prompt_report, "tell_browsers", lambda event, told, only_asking: events.append(told)
    )
    prompt_report._tell.cache_clear()
    return events


def test_the_log_and_the_page_are_told_once(tiny_sd1, told, caplog):
    clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, make_concept(tiny_sd1))[1]
    caplog.set_level(logging.INFO)
    for _ in range(2):
        encode(clip, "a <my-dog> and <my-dgo>")
    encode(clip, "a dog < 3 years")
    encode(clip, "a <my-dog>")
    lines = [record for record in caplog.records if "Personalize, prompt" in record.message]
    assert [line.levelname for line in lines] == ["WARNING", "INFO"]
    assert "did you mean <my-dog>?" in lines[0].message
    assert lines[1].message == "Personalize, prompt: <my-dog> recognised."
    assert told == [
        {
            "node": "",
            "text": "a <my-dog> and <my-dgo>",
            "recognised": ("<my-dog>",),
            "unknown": ["<my-dgo>"],
        },
        {"node": "", "text": "a <my-dog>", "recognised": ("<my-dog>",), "unknown": []},
    ]


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_a_weight_in_the_brackets_encodes_as_one_around_them(tiny, strength):
    concept = make_concept(tiny, 2, pose1=make_concept(tiny, seed=3).words[""])
    clip = apply_concept(tiny.model, tiny.clip, concept, strength)[1]
    for inside, around in (
        ("a <my-dog:0.8> on the beach", "a (<my-dog>:0.8) on the beach"),
        ("<my-dog:pose1:1.3>, <my-dog:.5>", "(<my-dog:pose1>:1.3), (<my-dog>:.5)"),
    ):
        assert_same(encode(clip, inside), encode(clip, around))
