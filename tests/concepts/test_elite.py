"""ELITE encoders: mappers against plain networks, names of blocks, the files and bad ones."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts import elite_files
from personalize.concepts.bases import BASES
from personalize.concepts.elite import (
    EliteEncoder,
    EliteStage,
    map_patches,
    map_words,
    mapper_shapes,
    mask_patches,
    read_layers,
    stage_tensors,
)
from personalize.concepts.elite_files import (
    find_encoder,
    load_encoder,
    load_encoder_files,
    official_blocks,
    save_encoder,
)
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.tensor_files import CHECKED, DIGEST
from personalize.concepts.vision import VisionShape
from personalize.tests.elite_models import random_weights
from torch.nn import LayerNorm, LeakyReLU, Linear, ModuleDict, Sequential

WIDE, TEXT = 16, 12


@pytest.mark.parametrize(
    ("layers", "picked"), [(24, [24, 4, 8, 12, 16]), (12, [12, 2, 4, 6, 8]), (8, [8, 1, 3, 4, 5])]
)
def test_encoders_of_any_depth_are_read_at_the_same_parts(layers, picked):
    assert read_layers(VisionShape(32, layers, 16)) == picked


def plain_mlp(wide, text):
    return Sequential(
        Linear(wide, wide), LayerNorm(wide), LeakyReLU(),
        Linear(wide, wide), LayerNorm(wide), LeakyReLU(),
        Linear(wide, text),
    )  # fmt: skip


def plain_mapper(wide, text, mapper):
    names = [f"mapping_{i}" for i in range(5)] + [f"mapping_patch_{i}" for i in range(5)]
    network = ModuleDict({name: plain_mlp(wide, text) for name in names})
    network.load_state_dict(mapper)
    return network


@pytest.mark.parametrize(("wide", "text", "patches"), [(16, 12, 9), (1024, 768, 256)])
@torch.inference_mode()
def test_mappers_equal_plain_networks(wide, text, patches):
    shapes = mapper_shapes(wide, text)
    mapper = random_weights({k: torch.Size(s) for k, s in shapes.items()}, 0)
    network = plain_mapper(wide, text, mapper)
    batch = 2 if wide < 100 else 1
    features = torch.randn(5, batch, 1 + patches, wide, generator=torch.Generator().manual_seed(1))
    words, local = map_words(mapper, features), map_patches(mapper, features)
    assert words.shape == (batch, 5, text) and local.shape == (batch, patches, text)
    total = torch.zeros(batch, patches, text)
    for i in range(5):
        of_class = network[f"mapping_{i}"](features[i][:, 0:1])
        of_patches = network[f"mapping_patch_{i}"](features[i][:, 1:])
        plain = (of_class + of_patches.mean(1, keepdim=True))[:, 0]
        assert (words[:, i] - plain).norm() / plain.norm() < 1e-5
        total = total + (of_class + of_patches) / 5
    assert (local - total).norm() / total.norm() < 1e-5
    assert torch.equal(map_words(mapper, features, 1), words[:, :1])


def test_the_mask_is_taken_nearest_at_the_patch_grid():
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2:4, 0] = 1  # row 1, column 0 of a grid of 3
    kept = mask_patches(torch.ones(1, 9, 2), mask)[0]
    assert kept[3].eq(1).all() and kept.sum() == 2


@pytest.mark.host
def test_the_sixteen_blocks_are_the_hosts():
    from comfy.supported_models import SD15
    from comfy.utils import unet_to_diffusers

    config = SD15.unet_config | {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    }
    theirs = {
        name.partition(".attn2")[0].replace(".", "_"): path.partition(".attn2")[0]
        for name, path in unet_to_diffusers(config).items()
        if name.endswith("attn2.to_k.weight")
    }
    assert len(theirs) == 16
    assert official_blocks() == theirs


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """The official layout at small widths."""
    monkeypatch.setattr(elite_files, "OFFICIAL_VISION", VisionShape(WIDE, 24, 256))
    base = replace(BASES["sd1"], encoders=(("clip_l", TEXT),))
    monkeypatch.setattr(elite_files, "OFFICIAL_BASE", base)


def official_half(seed):
    shapes = {k: torch.Size(s) for k, s in mapper_shapes(WIDE, TEXT).items()}
    for n, name in enumerate(official_blocks()):
        for letter in "kv":
            shapes[f"{name}_attn2_to_{letter}.weight"] = torch.Size((8 + n, TEXT))
    return random_weights(shapes, seed)


@pytest.fixture
def pair(small, tmp_path):
    paths = tmp_path / "global_mapper.pt", tmp_path / "local_mapper.pt"
    for seed, path in enumerate(paths):
        torch.save(official_half(seed), path)
    return paths


def assert_same_encoder(one, other):
    assert (one.name, one.base, one.text_width) == (other.name, other.base, other.text_width)
    assert one.vision == other.vision and one.digest == other.digest
    for a, b in ((one.global_stage, other.global_stage), (one.local_stage, other.local_stage)):
        first, second = stage_tensors(a), stage_tensors(b)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)


def test_the_official_pair_round_trips_bit_equal_through_our_format(pair, tmp_path):
    encoder = load_encoder_files(*pair)
    half = official_half(1)
    first = encoder.local_stage.projections["input_blocks.1.1.transformer_blocks.0"]
    name = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_"
    assert torch.equal(first[0], half[f"{name}k.weight"])
    assert torch.equal(first[1], half[f"{name}v.weight"])
    assert len(encoder.global_stage.projections) == 16
    save_encoder(encoder, tmp_path / "ours.safetensors")
    assert_same_encoder(load_encoder(tmp_path / "ours.safetensors"), encoder)
    assert_same_encoder(load_encoder_files(tmp_path / "ours.safetensors", None), encoder)


def test_an_encoder_of_words_alone_round_trips(pair, tmp_path):
    encoder = replace(load_encoder_files(*pair), local_stage=None)
    save_encoder(encoder, tmp_path / "words.safetensors")
    again = load_encoder(tmp_path / "words.safetensors")
    assert again.local_stage is None and again.digest == encoder.digest


def test_an_encoder_is_found_by_its_digest(pair, tmp_path):
    encoder = load_encoder_files(*pair)
    swapped = load_encoder_files(*reversed(pair))
    assert swapped.digest != encoder.digest
    (tmp_path / "other.pt").write_bytes(b"no")
    found = find_encoder([tmp_path / "other.pt", *pair], encoder.digest)
    assert_same_encoder(found, encoder)
    assert find_encoder(pair, encoder.digest) is found
    assert find_encoder([pair[0]], swapped.digest) is None
    save_encoder(swapped, tmp_path / "ours.safetensors")
    assert find_encoder([tmp_path / "ours.safetensors"], swapped.digest).digest == swapped.digest
    assert find_encoder([], "") is None


def test_an_encoder_is_shared_for_as_long_as_its_file_stays(pair, tmp_path):
    """Written over in place, cut off, or replaced by another: what is in use stays as it was."""
    encoder, path = load_encoder_files(*pair), tmp_path / "ours.safetensors"
    save_encoder(encoder, path)
    found = find_encoder([path], encoder.digest)
    assert find_encoder([path], encoder.digest) is found
    whole = path.read_bytes()
    for changed in (whole[:1000], whole[:-1000] + bytes(1000)):
        with path.open("r+b") as file:
            file.write(changed)
            file.truncate(len(changed))
        if len(changed) < len(whole):
            assert find_encoder([path], encoder.digest) is None
        else:
            with pytest.raises(ConceptFileError, match="ours.safetensors' is damaged"):
                find_encoder([path], encoder.digest)
    assert_same_encoder(found, encoder)
    path.write_bytes(whole)
    assert_same_encoder(find_encoder([path], encoder.digest), encoder)


def spoiled(path, change):
    half = torch.load(path, weights_only=True)
    change(half)
    torch.save(half, path)


K = "mid_block_attentions_0_transformer_blocks_0_attn2_to_k.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda h: h.update(extra=torch.ones(1)),
            "global_mapper.pt' has an unknown tensor 'extra'",
        ),
        (lambda h: h.update({"mapping_5.0.weight": torch.ones(1)}), "unknown.*mapping_5"),
        (lambda h: h.pop("mapping_patch_3.4.bias"), "lacks 1 tensors of mapping_patch_3"),
        (lambda h: h.update({"mapping_0.6.weight": torch.ones(9, WIDE)}), r"\(9, 16\), expected"),
        (lambda h: h.pop(K), "lacks the key or value projection of middle_block"),
        (lambda h: h.update({K: torch.ones(8, 9)}), "read text of width 12"),
        (lambda h: h.update({K: torch.ones(8, 12).int()}), "torch.int32"),
        (lambda h: h.update({K: "text"}), "no dictionary of tensors"),
    ],
)
def test_a_bad_mapper_is_refused(pair, change, says):
    spoiled(pair[0], change)
    with pytest.raises(ConceptFileError, match=says):
        load_encoder_files(*pair)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_the_global_mapper_loads_alone_and_is_found_again(pair):
    whole, words = load_encoder_files(*pair), load_encoder_files(pair[0], None)
    assert words.local_stage is None and words.digest != whole.digest
    assert words.global_stage.digest == whole.global_stage.digest
    found = find_encoder(pair, words.digest)
    assert found is not None and found.local_stage is None
    assert find_encoder(pair, whole.digest).local_stage is not None


def test_pickles_are_refused_and_one_file_as_both_mappers_too(pair, tmp_path, capsys):
    with pytest.raises(ConceptFileError, match="cannot be both mappers"):
        load_encoder_files(pair[0], pair[0])
    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ConceptFileError, match="was refused"):
        load_encoder_files(tmp_path / "evil.pt", pair[1])
    assert "ran" not in capsys.readouterr().out
    (tmp_path / "cut.pt").write_bytes(pair[0].read_bytes()[:500])
    with pytest.raises(ConceptFileError, match="cut.pt' (cannot be read|was refused)"):
        load_encoder_files(tmp_path / "cut.pt", pair[1])


def test_an_encoder_of_sdxls_size_is_not_put_into_a_concept(tmp_path):
    from personalize.concepts.concept import Concept
    from personalize.concepts.files import save_concept
    from personalize.concepts.methods import ELITE
    from personalize.concepts.unet_paths import host_block

    paths = [host_block(f"mid_block_attentions_0_transformer_blocks_{n}") for n in range(70)]
    with torch.device("meta"):  # as many numbers as its 70 cross attentions have on average
        pair = torch.empty(1216, 2048, dtype=torch.float16), torch.empty(1216, 2048).half()
    stage = EliteStage({}, dict.fromkeys(paths, pair))
    encoder = EliteEncoder("xl", "sdxl", 2048, VisionShape(8, 1, 4), stage, known_digest="0" * 64)
    words = {"": torch.ones(1, 2048)}
    concept = Concept(ELITE, "sdxl", 2048, "<rex>", "dog", words, encoder=encoder)
    with pytest.raises(ConceptFileError, match=r"665 MiB, as those of .* XL do.*at most 512 MiB"):
        save_concept(concept, tmp_path / "rex.safetensors", embed_encoder=True)
    assert not list(tmp_path.iterdir())


def test_bad_files_of_our_format(pair, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    encoder = load_encoder_files(*pair)
    path = tmp_path / "ours.safetensors"
    save_encoder(encoder, path)
    with pytest.raises(ConceptFileError, match="holds a whole encoder"):
        load_encoder_files(path, pair[1])
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    bad = tmp_path / "bad.safetensors"
    one = next(iter(tensors))
    for changed, description, says in (
        (tensors, metadata | {"format": "personalize-elite/2"}, "Update"),
        (tensors, {}, "is no ELITE encoder"),
        (tensors, metadata | {"base": "flux"}, "garbles 'flux'"),
        ({**tensors, "more": tensors[one]}, metadata, "unknown tensor 'more'"),
        ({k: t for k, t in tensors.items() if k[0] == "l"}, metadata, "lacks 100 tensors"),
        ({**tensors, one: tensors[one] + 1}, metadata, "does not hold what it says"),
        ({**tensors, one: tensors[one] * torch.nan}, metadata, "NaN or infinite numbers in"),
    ):
        description = {k: v for k, v in description.items() if k not in (CHECKED, DIGEST)}
        save_file({k: t.clone() for k, t in changed.items()}, bad, description)
        with pytest.raises(ConceptFileError, match=says):
            load_encoder(bad)
    bad.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConceptFileError, match="no whole safetensors"):
        load_encoder(bad)


def test_digests_tell_types_and_values_apart():
    stage = EliteStage({"a": torch.ones(2)}, {"b": (torch.ones(1, 2), torch.ones(1, 2))})
    same = EliteStage({"a": torch.ones(2)}, {"b": (torch.ones(1, 2), torch.ones(1, 2))})
    half = EliteStage({"a": torch.ones(2).half()}, stage.projections)
    assert stage.digest == same.digest != half.digest
    encoder = EliteEncoder("x", "sd1", 2, VisionShape(1, 1, 1), stage)
    assert encoder.digest != replace(encoder, local_stage=stage).digest
