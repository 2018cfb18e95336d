"""Every text that a browser shows is there in English and in Chinese, and none is out of date."""

import json
import re
from pathlib import Path

import pytest
from personalize.nodes import NODE_CLASS_MAPPINGS
from personalize.tools.make_locales import LOCALES, as_text, locales, node_texts, phrases
from personalize.tools.make_locales import read_phrases as read_chinese

pytestmark = pytest.mark.host

CHINESE = re.compile(r"[\u4e00-\u9fff]")
SYNTAX = re.compile(r"[{}|@]")  # of the host's translation messages
WEB = Path(__file__).parents[2] / "web"
PARTS = ["concepts", "live"]
"""Folders of scripts, each with texts of its own in main.json."""


def read(language, file):
    return json.loads((LOCALES / language / f"{file}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_files_are_as_the_tool_writes_them(language):
    path = LOCALES / language / "nodeDefs.json"
    written = as_text(locales()[path])
    assert path.read_text(encoding="utf-8") == written, "run python tools/run.py make_locales"


def test_every_text_of_every_node_is_translated_and_no_other():
    wanted, known = set(phrases(node_texts())), set(read_chinese())
    missing, unused = sorted(wanted - known), sorted(known - wanted)
    assert not missing, f"translate these in tools/phrases_zh.json: {missing}"
    assert not unused, f"remove these from tools/phrases_zh.json: {unused}"


@pytest.mark.parametrize("node_id", NODE_CLASS_MAPPINGS)
def test_every_node_and_input_has_an_entry(node_id):
    schema = NODE_CLASS_MAPPINGS[node_id].GET_SCHEMA()
    for language in ("en", "zh"):
        entry = read(language, "nodeDefs")[node_id]
        assert list(entry["inputs"]) == [one.id for one in schema.inputs]
        assert len(entry["outputs"]) == len(schema.outputs)
        assert all(text.strip() for text in phrases(entry))
    chinese = read("zh", "nodeDefs")[node_id]
    sentences = [chinese["description"], *(i["tooltip"] for i in chinese["inputs"].values())]
    assert [text for text in sentences if not CHINESE.search(text)] == []


def test_what_a_translation_must_keep():
    """File names, placeholders, numbers and names of settings."""
    kept = re.compile(r"models/\w+|output/\w+|<[\w-]+>|\{\w*\}|\b\d+(?:\.\d+)?\b|global_mapper\.pt")
    for english, chinese in read_chinese().items():
        if CHINESE.search(chinese) and " " in english:
            words = kept.findall(english)
            assert [word for word in words if word not in chinese] == [], english


def test_names_and_descriptions_hold_no_syntax_of_messages():
    """Tooltips are shown as they are; everything else is compiled as a message first."""
    for language in ("en", "zh"):
        for entry in read(language, "nodeDefs").values():
            names = [part["name"] for key in ("inputs", "outputs") for part in entry[key].values()]
            for text in (entry["display_name"], entry["description"], *names):
                assert not SYNTAX.search(text), text


def test_the_browser_says_the_same_in_both_languages():
    english, chinese = (read(language, "main") for language in ("en", "zh"))

    def shape(texts):
        if isinstance(texts, str):
            return sorted(re.findall(r"\{\w+\}", texts))
        return {key: shape(part) for key, part in texts.items()}

    assert shape(english) == shape(chinese)
    assert list(english["personalize"]) == PARTS
    assert all(CHINESE.search(text) for text in phrases(chinese["personalize"]))


@pytest.mark.parametrize("part", PARTS)
def test_every_text_of_a_part_is_there_and_used(part):
    texts = set(read("en", "main")["personalize"][part])
    scripts = (WEB / part).glob("*.js")
    source = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    calls = re.findall(r"\btext\(([^){]*)", source)
    asked = {key for call in calls for key in re.findall(r'"([a-z_]+)"', call)}
    asked |= set(re.findall(rf'"personalize\.{part}\.(\w+)"', source))
    assert asked <= texts
    quoted = set(re.findall(r'"([a-z_]+)"', source))  # tables name texts, too
    assert texts - asked <= quoted


@pytest.mark.parametrize("part", PARTS)
def test_no_other_text_is_shown(part):
    """Elements and their attributes get texts from the locales, not sentences of the source."""
    shown = re.compile(
        r'(?:textContent|title|alt|placeholder)\s*=\s*[`"][^`"\\]|aria-label",\s*[`"]'
    )
    for path in (WEB / part).glob("*.js"):
        assert not shown.findall(path.read_text(encoding="utf-8")), path.name
