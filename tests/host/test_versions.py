"""Too old a host is refused in a sentence, and one that lacks a private name is told."""

import ast
import logging
from pathlib import Path

import pytest

pytestmark = pytest.mark.host
from personalize.concepts.errors import PersonalizeError  # noqa: E402
from personalize.host import versions  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def test_this_host_has_all_that_the_pack_relies_on(caplog):
    with caplog.at_level(logging.WARNING):
        versions.check_host()
    assert not caplog.text


@pytest.mark.parametrize("version", ["0.16.2", "0.3.64", "0.9"])
def test_an_old_host_is_refused(version, monkeypatch):
    monkeypatch.setattr(versions, "comfyui_version", version)
    with pytest.raises(PersonalizeError, match=rf"ComfyUI {versions.OLDEST} .* this is {version}"):
        versions.check_host()


@pytest.mark.parametrize("version", ["0.16.3", "0.17", "0.45.2", "1.0.0"])
def test_newer_ones_are_not(version, monkeypatch):
    monkeypatch.setattr(versions, "comfyui_version", version)
    versions.check_host()


def test_what_a_newer_host_lost_is_told_and_the_rest_still_loads(caplog, monkeypatch):
    from comfy.sd1_clip import SDTokenizer

    monkeypatch.delattr(SDTokenizer, "_try_get_embedding")
    with caplog.at_level(logging.WARNING):
        versions.check_host()
    assert "relies on comfy.sd1_clip.SDTokenizer._try_get_embedding, which" in caplog.text


def test_the_oldest_version_is_the_same_wherever_it_is_said():
    told = f"{versions.OLDEST} or newer"
    assert f'requires-comfyui = ">={versions.OLDEST}"' in (ROOT / "pyproject.toml").read_text()
    assert f"ComfyUI {told}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", versions.PRIVATE_NAMES)
def test_each_private_name_has_the_room_that_is_named(name):
    """In its code: a docstring that speaks of the name is no use of it."""
    code = (ROOT / "host" / versions.PRIVATE_NAMES[name]).read_text(encoding="utf-8")
    used: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        used |= {
            str(getattr(node, field)) for field in ("id", "attr", "name") if hasattr(node, field)
        }
    assert name.split(".")[-1] in used
