"""What the docs name is there, and the guide's method learns."""

import re
from pathlib import Path

import pytest
import torch
from personalize.training.learn import learn
from personalize.training.sources import Sources

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ROOT / "docs", ROOT / "web" / "docs"
PAGES = [ROOT / "README.md", *(page for f in FOLDERS for page in sorted(f.glob("*.md")))]
GUIDE = ROOT / "docs" / "add-a-method.md"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    own = [link for link in links if "://" not in link]
    assert [link for link in own if not (page.parent / link).exists()] == []


def test_each_help_page_has_a_picture():
    pages = sorted((ROOT / "web" / "docs").glob("*.md"))
    assert len(pages) == 18
    assert [p.stem for p in pages if f"](pictures/{p.stem}.webp)" not in p.read_text("utf-8")] == []


@pytest.mark.parametrize("page", [GUIDE, ROOT / "docs" / "architecture.md"], ids=lambda p: p.name)
def test_files_named_in_code_font_are_there(page):
    named = re.findall(r"`([a-z_]+/[\w/]*\w+\.(?:py|md))`", page.read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.fixture
def guide():
    names = {"__name__": __name__}
    for code in CODE.findall(GUIDE.read_text(encoding="utf-8")):
        exec(compile(code, GUIDE.name, "exec"), names)  # noqa: S102
    return names


@pytest.mark.host
def test_the_guides_method_learns_a_direction(guide, tiny_sd1, tmp_path):
    def train(steps):
        config = guide["DirectionConfig"](
            placeholder="<my-dog>", init_word="dog", steps=steps, resolution=64
        )
        pictures = [torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))]
        models = {"model": tiny_sd1.model, "clip": tiny_sd1.clip, "vae": tiny_sd1.vae}
        with torch.inference_mode():
            sources = Sources(images=pictures, **models)
            return learn(config, sources, states=tmp_path, resume=True).concept.words[""]

    first, later = train(1), train(8)
    assert first.shape == (1, 64)
    assert torch.isclose(first.norm(), later.norm(), rtol=1e-5)
    assert 0.5 < torch.cosine_similarity(first, later) < 0.99999


@pytest.mark.host
def test_the_guides_node_has_a_schema(guide):
    ids = [one.id for one in guide["TrainDirection"].GET_SCHEMA().inputs]
    assert ids[:6] == ["model", "clip", "vae", "images", "placeholder", "init_word"]
    assert {"steps", "learning_rate", "preview_every", "resume"} <= set(ids)
