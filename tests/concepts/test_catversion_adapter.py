"""The official CatVersion program's adapter: which of its numbers are whose keys and values."""

from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.bases import TextLayer
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.residuals import residual_layers

OFFICIAL = Path(__file__).parents[3] / "shared/data/official/catversion_teapot_adapter.bin"


def adapter(tmp_path, flat):
    path = tmp_path / "teapot.bin"
    torch.save(
        {"text_model.encoder.layers.9.clip_text_model_self_prefix.control_trans": flat}, path
    )
    return path


@pytest.mark.parametrize("prefix", [1, 2])
def test_keys_and_values_lie_layer_by_layer(prefix, tmp_path):
    """(prefix, layer * 2 + {0: key, 1: value}, 768); row r of the whole holds the number r."""
    rows = torch.arange(6.0 * prefix)[:, None].expand(-1, 768)
    concept = load_concept(adapter(tmp_path, rows.half().flatten()))
    layers, bias = residual_layers(concept)
    assert (concept.method, concept.base, bias) == (methods.CATVERSION, "sd1", 1.0)
    assert (concept.placeholder, concept.class_word) == ("<teapot>", "")
    found = {layer: [t[:, 0].tolist() for t in pair] for layer, pair in layers.items()}
    assert found == {
        TextLayer("clip_l", 9 + n): [
            [6.0 * p + 2 * n for p in range(prefix)],
            [6.0 * p + 2 * n + 1 for p in range(prefix)],
        ]
        for n in range(3)
    }
    for pair in layers.values():
        assert all(t.shape == (prefix, 768) and t.dtype == torch.float32 for t in pair)


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official adapter is not beside the project")
def test_the_official_adapter(tmp_path):
    concept = load_concept(OFFICIAL)
    layers, bias = residual_layers(concept)
    assert (concept.method, concept.base, bias) == (methods.CATVERSION, "sd1", 1.0)
    norms = {
        layer.index: tuple(round(t.norm().item(), 3) for t in pair)
        for layer, pair in layers.items()
    }
    assert norms == {9: (34.008, 32.285), 10: (30.556, 30.571), 11: (32.541, 32.783)}
    flat = next(iter(torch.load(OFFICIAL, weights_only=True, map_location="cpu").values()))
    assert torch.equal(torch.cat([t for pair in layers.values() for t in pair]).flatten(), flat)
    save_concept(concept, tmp_path / "teapot.safetensors")
    again = load_concept(tmp_path / "teapot.safetensors")
    assert all(torch.equal(again.tensors[k], v) for k, v in concept.tensors.items())


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        (torch.zeros(3 * 2 * 1024), "6144 numbers.*multiple of 6 x 768"),
        (torch.full((4608,), float("nan")), "NaN"),
        (torch.zeros(0), "0 numbers"),
    ],
)
def test_damaged_adapters_are_refused(tmp_path, flat, message):
    with pytest.raises(ConceptFileError, match=message):
        load_concept(adapter(tmp_path, flat))
