"""The three stages on a text encoder and a denoiser of a few numbers: what is learned, what is
frozen, and what the losses are made of."""

import pytest
import torch
from personalize.concepts.elite import (
    EliteEncoder,
    by_path,
    map_patches,
    map_words,
    mask_patches,
)
from personalize.concepts.vision import VisionShape
from personalize.tests.elite_models import random_stage
from personalize.tests.training.toy import WIDTH, ToyDenoiser, toy_backbone
from personalize.training.elite.alignment import SCALE, AlignedElite, AlignmentBatch, contrast
from personalize.training.elite.config import EliteConfig
from personalize.training.elite.global_stage import EliteBatch, GlobalElite
from personalize.training.elite.local_stage import LocalElite, LocalTerm
from torch.nn.functional import cross_entropy, normalize

pytestmark = pytest.mark.host

VISION, PATCHES, CHANNELS, ROWS = 8, 4, 6, 2
SHAPE = VisionShape(VISION, 12, PATCHES)
BLOCK = "input_blocks.1.1.transformer_blocks.0"
TEMPLATES = "a {}\nthe very {} there"


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pairs(seed):
    return {BLOCK: (random(CHANNELS, WIDTH, seed=seed), random(CHANNELS, WIDTH, seed=seed + 1))}


def encoder(local=True):
    stages = [random_stage(pairs(10 * n), WIDTH, n, VISION) for n in (1, 2)]
    return EliteEncoder("start", "sd1", WIDTH, SHAPE, *stages[: 1 + local])


class Noted(ToyDenoiser):
    """Keeps what takes the place of attention."""

    def predict(self, x0, noise, t, context, attention=None):
        self.attention = attention
        return super().predict(x0, noise, t, context)


def backbone():
    own = {path: torch.nn.Parameter(w.clone()) for path, w in by_path(pairs(0)).items()}
    made = toy_backbone(denoiser=Noted(), open_projections=lambda: own)
    made.own = own
    return made


def config(stage, **changes):
    return EliteConfig(stage=stage, templates=TEMPLATES, zoom=False, **changes)


def batch(visible=1.0):
    shown = torch.ones(ROWS, 1, 2, 2)
    shown[0, :, 0] = visible
    return EliteBatch(
        x0=torch.zeros(ROWS, 4, 2, 2),
        noise=random(ROWS, 4, 2, 2),
        t=torch.zeros(ROWS, dtype=torch.long),
        index=torch.arange(ROWS),
        prompt=torch.tensor([1, 0]),
        features=random(5, ROWS, 1 + PATCHES, VISION, seed=1),
        visible=shown,
        local=random(5, ROWS, 1 + PATCHES, VISION, seed=2),
        masks=torch.tensor([[1.0, 0.0], [1.0, 1.0]]).expand(ROWS, 1, 2, 2),
    )


def changed(parameters):
    with torch.no_grad():
        for tensor in parameters.values():
            tensor.add_(1)


def copies(encoder):
    stages = [stage for stage in (encoder.global_stage, encoder.local_stage) if stage is not None]
    return [
        tensor.clone()
        for stage in stages
        for tensor in (*stage.mapper.values(), *(w for p in stage.projections.values() for w in p))
    ]


def test_a_part_of_a_batch_has_its_own_features():
    whole = batch()
    part = whole.part(slice(1, 2))
    assert torch.equal(part.features, whole.features[:, 1:])
    assert torch.equal(part.local, whole.local[:, 1:])
    assert torch.equal(part.masks, whole.masks[1:]) and part.prompt.tolist() == [0]


def predicted(learner, words, prompts):
    """What the toy denoiser makes of the prompts: the mean of their rows, (B, 1, 1, 1)."""
    slots, ids = learner.table.slots[prompts], learner.table.ids[prompts]
    rows = ids.float().expand(*ids.shape[:2], WIDTH).clone()
    for n, (slot, own) in enumerate(zip(slots, words, strict=True)):
        rows[n, slot >= 0] = own.detach()[slot[slot >= 0]]
    return rows.mean(dim=(1, 2)).view(-1, 1, 1, 1)


def test_the_global_stage_learns_words_and_the_models_keys_and_values():
    host, start = backbone(), encoder()
    before = copies(start)
    learner = GlobalElite(config("global", projections_share=0.1), host, SHAPE, start)
    assert learner.parameters.keys() == learner.mapper.keys() | host.own.keys()
    assert all(learner.parameters[path] is weight for path, weight in host.own.items())
    assert learner.shares == dict.fromkeys(host.own, 0.1)
    drawn = batch()
    terms = learner.loss(host, drawn)
    words = map_words(learner.mapper, drawn.features)
    errors = drawn.noise - predicted(learner, words, drawn.prompt)
    assert terms["denoising"].item() == pytest.approx(errors.square().mean().item(), rel=1e-5)
    assert terms["words"].item() == pytest.approx(0.01 * words.abs().mean().item(), rel=1e-5)
    changed(learner.parameters)
    assert all(map(torch.equal, before, copies(start)))


def test_the_local_stage_learns_on_a_frozen_global_one():
    host, start = backbone(), encoder()
    before = copies(start)
    learner = LocalElite(config("local", projections_share=0.1), host, start)
    own = by_path(learner.projections)
    assert learner.parameters == {**learner.mapper, **own}
    assert learner.shares == dict.fromkeys(own, 0.1)
    assert all(tensor.is_leaf and tensor.requires_grad for tensor in learner.parameters.values())
    for path, weight in by_path(start.global_stage.projections).items():
        assert torch.equal(host.own[path], weight) and not host.own[path].requires_grad
    for path, weight in by_path(start.local_stage.projections).items():
        assert torch.equal(own[path], weight)
    made = learner.to_encoder()
    assert made.global_stage is start.global_stage and made.name == "start"
    changed({**learner.parameters, **learner.words_mapper})
    assert all(map(torch.equal, before, copies(start)))


def test_a_first_local_stage_starts_from_the_global_projections():
    host, start = backbone(), encoder(local=False)
    own = by_path(LocalElite(config("local"), host, start).projections)
    for path, weight in by_path(start.global_stage.projections).items():
        assert torch.equal(own[path], weight) and own[path] is not host.own[path]


@pytest.mark.parametrize("channels", [4, 1])
def test_the_local_loss_counts_what_is_visible(channels):
    host, start = backbone(), encoder()
    learner = LocalElite(config("local", sum_channels=channels == 4), host, start)
    drawn = batch(visible=0.0)
    terms = learner.loss(host, drawn)
    words = map_words(start.global_stage.mapper, drawn.features, count=1)
    errors = (drawn.noise - predicted(learner, words, drawn.prompt)).square()
    seen = (errors[0, :, 1].mean() + errors[1].mean()) / 2
    assert terms["denoising"].item() == pytest.approx(channels * seen.item(), rel=1e-5)

    local = mask_patches(map_patches(start.local_stage.mapper, drawn.local), drawn.masks)
    to_k, to_v = start.local_stage.projections[BLOCK]
    (term,) = host.denoiser.attention.values()
    assert host.denoiser.attention.keys() == {("input", 1, 0)}
    assert torch.allclose(term.keys, local @ to_k.T) and torch.allclose(term.values, local @ to_v.T)
    assert term.rows.tolist() == [3, 2]  # "the very {} there", "a {}"
    values = (local @ to_v.T).abs().mean().item()
    assert terms["values"].item() == pytest.approx(1e-4 * values, rel=1e-5)
    gradients = torch.autograd.grad(
        sum(terms.values()), list(learner.parameters.values()), allow_unused=True
    )
    given = dict(zip(learner.parameters, gradients, strict=True))
    assert given[f"{BLOCK}.attn2.to_v"].abs().sum() > 0


def test_a_local_term_is_attention_to_the_picture_where_the_word_is_looked_at():
    """One head: out = softmax(q k) v + R softmax(q K) V with R = p(word) / max p."""
    q, k, v = (random(1, n, 8, seed=n) for n in (5, 4, 4))
    keys, values = random(1, 3, 8, seed=7), random(1, 3, 8, seed=8)
    term = LocalTerm(keys, values, torch.tensor([2]))
    out = term(q, k, v, {"n_heads": 1})
    shares = (q @ k.transpose(1, 2) / 8**0.5).softmax(dim=-1)
    word = shares[:, :, 2:3]
    local = (q @ keys.transpose(1, 2) / 8**0.5).softmax(dim=-1) @ values
    expected = shares @ v + word / word.amax(dim=1, keepdim=True) * local
    assert torch.allclose(out, expected, atol=1e-5)


def test_to_align_prompts_of_five_words_and_of_one_are_compared():
    host, start = backbone(), encoder(local=False)
    learner = AlignedElite(config("align"), host, SHAPE, start)
    assert learner.parameters is learner.mapper and learner.shares == {}
    slots = [sorted(set(table.slots[0].tolist())) for table in learner.tables]
    assert slots == [[-1, 0, 1, 2, 3, 4], [-1, 0]]
    drawn = AlignmentBatch(batch().features, torch.tensor([1, 0]), random(ROWS, WIDTH, seed=3))
    terms = learner.loss(host, drawn)
    words = map_words(learner.mapper, drawn.features)
    contrasts = [
        contrast(host.text.embedding(table.embed(host.text, drawn.prompt, words)), drawn.subjects)
        for table in learner.tables
    ]
    assert terms["contrast"].item() == pytest.approx(sum(c.item() for c in contrasts) / 2)
    kept = by_path(learner.to_encoder().global_stage.projections)
    for path, weight in by_path(start.global_stage.projections).items():
        assert torch.equal(kept[path], weight)  # not the model's own


def test_contrast_asks_both_ways():
    prompts = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    subjects = torch.tensor([[1.0, 0.2], [0.0, 3.0]])
    cosines = SCALE * normalize(prompts, dim=-1) @ normalize(subjects, dim=-1).T
    own = torch.arange(2)
    ways = cross_entropy(cosines, own), cross_entropy(cosines.T, own)
    assert ways[0] != pytest.approx(ways[1].item())
    assert contrast(prompts, subjects).item() == pytest.approx(sum(w.item() for w in ways) / 2)
