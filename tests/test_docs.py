"""What the docs name is there, and the guide's method learns."""

import re
from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.files import load_concept, save_concept
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
    """The guide's code as one file, which makes its method and node known for one test."""
    from personalize.nodes import NODE_CLASS_MAPPINGS

    names = {"__name__": __name__}
    code = "\n".join(CODE.findall(GUIDE.read_text(encoding="utf-8")))
    try:
        exec(compile(code, GUIDE.name, "exec"), names)  # noqa: S102
        yield names
    finally:
        methods.METHODS.pop("direction", None)
        NODE_CLASS_MAPPINGS.pop("PersonalizeTrainDirection", None)


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
    schema = guide["TrainDirection"].GET_SCHEMA()
    ids = [one.id for one in schema.inputs]
    assert schema.display_name == "Train Direction"
    assert ids[:6] == ["model", "clip", "vae", "images", "placeholder", "init_word"]
    assert {"steps", "learning_rate", "preview_every", "resume"} <= set(ids)


@pytest.mark.host
def test_the_guides_method_goes_from_its_node_to_a_picture(guide, tiny_sd1, tmp_path):
    """No other file of the pack knows it: it is trained, saved, told of, loaded and drawn."""
    from personalize.concepts.cards import read_card
    from personalize.nodes.routes import makers, method_json
    from personalize.tests.nodes.test_train_nodes import run

    concept, losses = run(guide["TrainDirection"], tiny_sd1, steps=3, learning_rate=0.05)
    assert len(losses["loss"]) == 3
    save_concept(concept, tmp_path / "mine.safetensors")
    card = read_card(tmp_path / "mine.safetensors", "mine")
    assert (card.method, card.method_name, card.write) == ("direction", "Direction", "<my-dog>")
    assert method_json(makers()["PersonalizeTrainDirection"])["method_name"] == "Direction"

    loaded, models = load_concept(tmp_path / "mine.safetensors"), (tiny_sd1.model, tiny_sd1.clip)
    with torch.inference_mode():
        stock = guide["picture_of"](*models, tiny_sd1.vae, loaded, 0.0)
        drawn = guide["picture_of"](*models, tiny_sd1.vae, loaded, 1.0)
    assert loaded.method is guide["DIRECTION"]
    assert drawn.shape == (1, 64, 64, 3) and torch.isfinite(drawn).all()
    assert not torch.equal(drawn, stock)
