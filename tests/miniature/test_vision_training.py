"""The vision tower's training: what it is shown, how it begins, and that a second part goes on."""

import pytest
import torch
from personalize.miniature.cache import Shards
from personalize.miniature.files import load_pair, read
from personalize.miniature.measure_vision import GRID
from personalize.miniature.models.clip import Shape, VisionTower
from personalize.miniature.train import export, sights, vision
from personalize.miniature.train.loop import Plan, Run

pytestmark = pytest.mark.host
FEW = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A cache with a small rendered set."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sights, "SHARD", FEW)
        pictures, rows = sights.shard(0, ["Ada Lovelace"])
    Shards(root / sights.NAME, "train").add(pictures, rows)
    return root


@pytest.fixture
def source(root, monkeypatch):
    monkeypatch.setattr(sights, "SHARD", FEW)
    return sights.Sights(root, 1, 8)


def begun(source):
    pictures = torch.tensor(source.pictures[0][:FEW]).permute(0, 3, 1, 2)
    return vision.begun(load_pair().vision, pictures[:, :3].float() / 255)


def test_patches_are_of_the_class_that_covers_them():
    masks = torch.zeros(1, 1, 128, 128)
    masks[..., :32, :32] = 1  # four patches
    masks[..., :4, 64:68] = 1  # a sixteenth of a patch: neither
    found = sights.patch_classes(masks, torch.tensor([3])).view(GRID, GRID)
    assert (found[:2, :2] == 3).all()
    assert found[0, 4] == -1
    assert (found == sights.BESIDE).sum() == GRID**2 - 5


def test_a_batch_is_the_same_after_a_resume(root, source):
    source = sights.Sights(root, 1, 16)
    for one, again in zip(source.at(5), next(source.batches(5)), strict=True):
        assert torch.equal(one, again)
    pictures, texts, facts, patches, told = source.at(6)
    assert pictures.shape == (16, 3, 128, 128) and patches.shape == (16, GRID**2)
    assert torch.allclose(texts.norm(dim=1), torch.ones(16), atol=2e-3)
    assert not told.all() and told.any()  # captions tell no ground where the subject stands alone
    kinds = facts[:, :1].expand_as(patches)
    assert ((patches == kinds) | (patches == sights.BESIDE) | (patches == -1)).all()


def test_the_subjects_patches_are_seen_first():
    patches = torch.full((2, GRID**2), sights.BESIDE)
    patches[:, 10:20] = 1
    patches[:, 20:24] = -1
    seen = vision.seen_patches(patches, 12)
    assert seen.shape == (2, 12)
    for row in seen.tolist():
        assert set(range(10, 20)) <= set(row) and len(set(row)) == 12


def test_more_layers_begin_as_the_same_function(source):
    tower = begun(source)
    larger = vision.grown(tower)
    picture = torch.rand(2, 3, 128, 128)
    assert len(vision.layers(larger)) == Shape().vision_layers > len(vision.layers(tower))
    assert torch.allclose(larger.pooled(picture), tower.pooled(picture), atol=1e-5)


def test_hidden_states_of_all_patches_are_the_towers_own(source):
    sight = vision.Sight(vision.grown(begun(source)), sights.class_embeddings())
    picture = torch.rand(2, 3, 128, 128)
    states = sight.states(picture, torch.arange(GRID**2).expand(2, -1))
    pooled = sight.vision.post_layernorm(states[0][:, 0])
    assert torch.allclose(pooled, sight.vision.pooled(picture), atol=1e-5)
    assert sorted(states) == [0, *vision.READ]


def test_a_step_lowers_the_loss_and_the_average_is_exported(root, source, tmp_path):
    sight = vision.Sight(vision.grown(begun(source)), sights.class_embeddings())
    plan = Plan(3, learning_rate=1e-3, warmup=1, ema=0.5, log_every=1)
    run = Run(root / "vision", sight, plan, torch.device("cpu"))
    batch = source.at(0)
    torch.manual_seed(0)
    before = float(vision.loss(sight, batch)[0].detach())
    run.train(lambda step: iter([batch] * 3), vision.loss)
    torch.manual_seed(0)
    assert float(vision.loss(sight, batch)[0].detach()) < before
    export.export(root, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["miniature_vision.safetensors"]
    written, _ = read(tmp_path / "miniature_vision.safetensors")
    kept = export.half(export.vision_state(vision.trained_tower(root)))
    assert written.keys() == kept.keys()
    assert all(torch.equal(value, kept[key].float()) for key, value in written.items())
    assert isinstance(vision.trained_tower(root), VisionTower)
