"""DETEX's parts: its prompts, its mappers, which words' maps are held to which masks."""

from types import SimpleNamespace

import pytest
import torch
from personalize.host.conditioning import Conditioning
from personalize.tests.training.toy import END, toy_backbone
from personalize.training import detex as module
from personalize.training.batch import Batch
from personalize.training.detex import (
    Detex,
    DetexConfig,
    WordMapper,
    distance_by_maximum,
    mean_square_distance,
    norm_distance,
    prompt_table,
)
from personalize.training.sources import Sources
from torch.nn.functional import leaky_relu, linear

pytestmark = pytest.mark.host

COUNT = 3


def config(**changes):
    return DetexConfig(placeholder="<it>", class_word="dog", **changes)


@pytest.fixture
def learner():
    """A learner's own settings and tensors, without what it trains."""
    backbone = toy_backbone()
    table = prompt_table(config(), backbone, COUNT)
    masks = torch.zeros(COUNT, 8, 8)
    masks[:, :4] = 1  # the upper half
    masks[:, :4, :2] = 0
    made = SimpleNamespace(config=config(), table=table, slots=table.slots, masks=masks)
    for name in ("prompt_rows", "masks_of", "attention_loss", "removed"):
        setattr(made, name, getattr(Detex, name).__get__(made))
    return made


def batch(index, **more):
    rows = torch.tensor(index)
    x0 = torch.zeros(len(index), 4, 2, 2)
    return Batch(x0=x0, noise=x0, t=rows, index=rows, prompt=torch.zeros_like(rows), **more)


def test_every_picture_has_a_prompt_with_its_words_and_one_without_its_background():
    backbone = toy_backbone()
    table = prompt_table(config(pose_word="view"), backbone, COUNT)
    known = {number: word for word, number in backbone.text.known.items()}
    shown = []
    for ids, slots in zip(table.ids[..., 0].tolist(), table.slots.tolist(), strict=True):
        pairs = zip(ids[1 : ids.index(END)], slots[1:], strict=False)
        shown.append(" ".join(known[n] if slot < 0 else f"[{slot}]" for n, slot in pairs))
    with_ending = [
        f"photo of a [0] dog with [{1 + n}] view in [{1 + COUNT + n}] background" for n in range(3)
    ]
    assert shown == with_ending + [text.partition(" in ")[0] for text in with_ending]


def test_the_background_goes_as_often_as_asked_from_prompt_and_picture(learner):
    chance = torch.tensor([0.0, 0.49, 0.5, 0.99])
    drawn = SimpleNamespace(chance=chance, t=chance, x0=chance, index=torch.tensor([0, 1, 2, 1]))
    removed = learner.removed(drawn)
    assert removed.tolist() == [True, True, False, False]
    assert learner.prompt_rows(drawn, removed).tolist() == [3, 4, 2, 1]
    drawn.chance = None
    assert learner.removed(drawn).tolist() == [False] * 4


class Reader:
    """Maps in which every pixel tells the word's place in the prompt."""

    def word_maps(self, places):
        self.places = places
        return ((places + 1) / 20)[..., None, None].expand(*places.shape, 4, 4)


@pytest.mark.parametrize("norm", ["norm", "by maximum", "mean square"])
def test_a_pose_is_held_to_the_mask_and_a_background_to_the_rest(learner, norm):
    learner.reader, learner.config = Reader(), config(attention_norm=norm)
    drawn, removed = batch([1, 2]), torch.tensor([False, True])
    loss = learner.attention_loss(drawn, removed)
    pose, background = 7, 10  # photo of a [v] dog with [p] pose in [b] background
    assert learner.reader.places[0].tolist() == [pose, background]
    assert learner.reader.places[1, 0].item() == pose
    inside = torch.zeros(2, 4, 4)
    inside[:, :2, 1:] = 1
    distance = module.DISTANCES[module.AttentionNorm(norm)]

    def flat(place):
        return torch.full((2, 4, 4), (place + 1) / 20)

    first = distance(flat(pose), inside)
    second = distance(flat(background), 1 - inside)
    assert loss.item() == pytest.approx(((first[0] + second[0] + first[1]) / 2).item())


def test_a_mirrored_picture_has_a_mirrored_mask(learner):
    mirrored = learner.masks_of(batch([0, 0], mirrored=torch.tensor([False, True])), 4)
    assert mirrored[0, 0].tolist() == [0, 1, 1, 1] and mirrored[1, 0].tolist() == [1, 1, 1, 0]
    assert not mirrored[:, 2:].any()


def test_distances_of_a_map_from_its_mask():
    maps = torch.tensor([[[0.5, 0.0], [0.0, 0.0]], [[0.2, 0.1], [0.0, 0.0]]])
    wanted = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    assert norm_distance(maps, wanted).tolist() == pytest.approx([0.5, 0.65**0.5])
    assert mean_square_distance(maps, wanted).tolist() == pytest.approx([0.0625, 0.1625])
    # each map by its own maximum
    assert distance_by_maximum(maps, wanted).tolist() == pytest.approx([0.0, 0.0625])


def test_a_mapper_is_three_layers_whose_words_have_the_vocabularys_length():
    embeddings = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    sizes = [(3, 0.5), (2, 4.0)]  # of two text encoders
    mapper = WordMapper.started(embeddings, sizes, torch.Generator().manual_seed(1))
    words = mapper.words()
    for part, (width, norm) in zip(words.split([3, 2], dim=1), sizes, strict=True):
        assert part.shape == (5, width)
        assert part.norm(dim=1).mean().item() == pytest.approx(norm, rel=1e-5)
    weights = mapper.parameters
    x = linear(embeddings, weights["0.weight"], weights["0.bias"])
    x = linear(leaky_relu(x), weights["1.weight"], weights["1.bias"])
    x = linear(leaky_relu(x), weights["2.weight"], weights["2.bias"])
    assert torch.allclose(words, x)
    assert all(weight.is_leaf and weight.requires_grad for weight in weights.values())


def test_blanked_is_what_lies_outside_of_the_mask(monkeypatch):
    encoded, embedded = [], []

    def encode_squares(vae, squares, flip):
        encoded.append(squares)
        return SimpleNamespace(upright="upright", mirrored=None)

    monkeypatch.setattr(module, "encode_squares", encode_squares)
    monkeypatch.setattr(module, "image_embeddings", lambda _, squares: embedded.append(squares))
    monkeypatch.setattr(module, "encode_prior", lambda *parts: None)
    monkeypatch.setattr(module, "DetexPictures", lambda **parts: SimpleNamespace(**parts))
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    sources = Sources(
        model=None, clip=None, vae=None, clip_vision=None,
        images=[torch.full((1, 64, 64, 3), 0.25)], masks=[mask],
    )  # fmt: skip
    Detex.prepare(config(resolution=64, pose_sees="subject"), sources, None)
    whole, blanked = encoded
    assert whole.unique().tolist() == [0.25]
    assert blanked[0, :32].unique() == 0.25 and blanked[0, 32:].unique() == 1.0
    assert [squares is kept for squares, kept in zip(embedded, (blanked, whole), strict=True)] == [
        True, True,
    ]  # fmt: skip


def test_the_prompt_of_each_row_has_its_own_words():
    backbone = toy_backbone()
    words = torch.arange(1.0 + 2 * COUNT)[:, None].expand(-1, 4) * 100
    made = SimpleNamespace(
        word=words[:1], table=prompt_table(config(), backbone, COUNT), masks=torch.ones(COUNT, 2, 2)
    )
    made.pose = SimpleNamespace(words=lambda: words[1 : 1 + COUNT])
    made.background = SimpleNamespace(words=lambda: words[1 + COUNT :])
    made.prompt_rows = Detex.prompt_rows.__get__(made)
    context = Detex.context(made, backbone, batch([2, 1]), torch.tensor([False, True]))
    assert isinstance(context, Conditioning)
    rows = context.rows[..., 0]
    assert rows[0, [4, 7, 10]].tolist() == [0.0, 300.0, 600.0]
    assert rows[1, [4, 7]].tolist() == [0.0, 200.0] and rows[1].max() < 300
