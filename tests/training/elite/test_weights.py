"""Where an ELITE training's tensors start, and that nobody's own are changed."""

from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.elite import EliteStage, by_path, mapper_shapes
from personalize.concepts.errors import BaseModelError
from personalize.concepts.vision import VisionShape
from personalize.training.elite.config import EliteConfig
from personalize.training.elite.weights import (
    by_block,
    check_blocks,
    elite_stage,
    projections_to_train,
    start_mapper,
)

pytestmark = pytest.mark.host

SHAPE = VisionShape(width=8, layers=3, patches=4)
TEXT = 32
CPU = torch.device("cpu")
BLOCK = "input_blocks.1.1.transformer_blocks.0"


def mapper(**changes):
    return start_mapper(EliteConfig(**changes), SHAPE, TEXT, None, CPU)


def pair(start=0.0):
    to_k = start + torch.arange(6.0).view(3, 2)
    return to_k, -to_k - 1


def test_layers_start_as_torchs_linear_layers_and_norms_do():
    tensors = mapper()
    assert {name: tuple(t.shape) for name, t in tensors.items()} == mapper_shapes(8, TEXT)
    for name, tensor in tensors.items():
        kind = name.rpartition(".")[2]
        if ".1." in name or ".4." in name:
            assert tensor.unique().tolist() == [1.0 if kind == "weight" else 0.0], name
        elif kind == "weight":  # uniform up to 1 / sqrt(8), whatever the layer's output
            assert 0.9 < tensor.abs().max() * 8**0.5 <= 1, name
            assert abs(tensor.mean()) < 0.1, name
        assert tensor.requires_grad and tensor.is_leaf, name
    again, other = mapper(), mapper(train_seed=1)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    assert not torch.equal(tensors["mapping_0.0.weight"], other["mapping_0.0.weight"])


def test_only_the_last_layers_start_smaller():
    whole, small = mapper(), mapper(start_scale=0.5)
    for name, tensor in whole.items():
        factor = 0.5 if ".6." in name else 1.0
        assert torch.equal(small[name], factor * tensor), name


def test_a_mapper_goes_on_from_a_stage_without_touching_it():
    stage = EliteStage({"mapping_0.0.weight": torch.ones(2, 2, dtype=torch.float16)}, {})
    leaf = start_mapper(EliteConfig(start_scale=0.5), SHAPE, TEXT, stage, CPU)["mapping_0.0.weight"]
    assert leaf.dtype == torch.float32 and leaf.unique() == 1
    same = EliteStage({"a": torch.ones(2)}, {})
    with torch.no_grad():
        start_mapper(EliteConfig(), SHAPE, TEXT, same, CPU)["a"].add_(1)
    assert same.mapper["a"].unique() == 1


def test_keys_and_values_keep_their_places():
    weights = {f"{BLOCK}.attn2.to_k": pair()[0], f"{BLOCK}.attn2.to_v": pair()[1]}
    blocks = by_block(weights)
    assert blocks.keys() == {BLOCK}
    assert all(map(torch.equal, blocks[BLOCK], pair()))
    again = by_path(blocks)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[path], weight) for path, weight in weights.items())


def opened(start=0.0):
    """A backbone that opens the model's own keys and values."""
    own = by_path({BLOCK: pair(start)})
    parameters = {path: torch.nn.Parameter(weight.clone()) for path, weight in own.items()}
    return SimpleNamespace(open_projections=lambda: parameters)


def test_what_is_trained_are_the_opened_weights_with_a_stages_numbers():
    backbone = opened()
    weights = projections_to_train(backbone, EliteStage({}, {BLOCK: pair(10.0)}))
    assert all(weights[path] is weight for path, weight in backbone.open_projections().items())
    assert all(map(torch.equal, by_block(weights)[BLOCK], pair(10.0)))
    plain = by_block(projections_to_train(opened(), None))
    assert all(map(torch.equal, plain[BLOCK], pair()))


@pytest.mark.parametrize(
    "other", [{}, {"middle_block.1": pair()}, {BLOCK: (pair()[0], pair()[1][:2])}]
)
def test_an_encoder_of_another_unet_is_refused(other):
    check_blocks({BLOCK: pair()}, {BLOCK: pair(1.0)})
    with pytest.raises(BaseModelError, match=f"projections for {len(other)} cross attentions"):
        check_blocks({BLOCK: pair()}, other)


def test_what_is_kept_is_what_is_read_of_the_parameters_and_a_copy():
    trained = torch.ones(2, requires_grad=True)
    stage = elite_stage({"a": trained}, {BLOCK: (trained, 2 * trained)}, lambda t: t / 4)
    assert [t.unique().item() for t in (stage.mapper["a"], *stage.projections[BLOCK])] == [
        0.25, 0.25, 0.5,
    ]  # fmt: skip
    kept = elite_stage({"a": trained}, {}, torch.detach).mapper["a"]
    with torch.no_grad():
        trained.add_(1)
    assert kept.unique() == 1 and not kept.requires_grad
