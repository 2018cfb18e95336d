"""Changes of weights as a LoRA: its names are those that other programs know."""

import re
from pathlib import Path

import pytest
import torch
from personalize.concepts.bases import BASES
from personalize.concepts.concept import Concept
from personalize.concepts.differences import difference_tensors, factors, whole_tensors
from personalize.concepts.errors import PersonalizeError
from personalize.concepts.lora import lora_metadata, lora_tensors, written_with_embeddings
from personalize.concepts.methods import CROSS_INIT, CUSTOM_DIFFUSION, DETEX
from personalize.tests.concepts.test_unet_paths import UNETS

ROOT = Path(__file__).parents[2]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_concept(base="sd1", **changes):
    width = BASES[base].text_width
    paths = [
        f"{block}.1.transformer_blocks.0.attn2.to_{letter}"
        for block in ("input_blocks.1", "input_blocks.8", "middle_block", "output_blocks.11")
        for letter in "kv"
    ]
    rows = {"input_blocks.8.1.transformer_blocks.0.attn2.to_k": width + 8}
    differences = {p: random(rows.get(p, 24), width, seed=n) / 8 for n, p in enumerate(paths)}
    settings = {
        "method": DETEX,
        "base": base,
        "text_width": width,
        "placeholder": "<my-dog>",
        "class_word": "dog",
        "words": {"": random(1, width), "pose1": random(1, width)},
        "tensors": difference_tensors(differences),
    }
    return Concept(**settings | changes)


def products(lora):
    layers = {name.removesuffix(".alpha") for name in lora if name.endswith(".alpha")}
    found = {}
    for layer in layers:
        up, down = (lora[f"{layer}.lora_{part}.weight"].float() for part in ("up", "down"))
        found[layer] = lora[f"{layer}.alpha"] / len(down) * (up @ down)
    return found


NAME_OF = {
    "input_blocks.1.1": "down_blocks_0_attentions_0",
    "input_blocks.8.1": "down_blocks_2_attentions_1",
    "middle_block.1": "mid_block_attentions_0",
    "output_blocks.11.1": "up_blocks_3_attentions_2",
}


@pytest.mark.parametrize("base", ["sd1", "sd2"])
def test_at_full_rank_nothing_is_lost(base):
    concept = make_concept(base)
    lora, error = lora_tensors(concept, 0)
    assert error == 0
    found = products(lora)
    assert len(found) == 8
    for path in [name.removeprefix("difference.") for name in concept.tensors]:
        block, _, layer = path.partition(".transformer_blocks.0.attn2.")
        name = f"lora_unet_{NAME_OF[block]}_transformer_blocks_0_attn2_{layer}"
        assert torch.equal(found[name], concept.tensors[f"difference.{path}"].float())
    assert all(t.dtype == torch.float16 for name, t in lora.items() if "alpha" not in name)


def test_a_rank_loses_what_is_said():
    concept = make_concept()
    whole, (small, error) = products(lora_tensors(concept, 0)[0]), lora_tensors(concept, 8)
    kept = products(small)
    lost = sum((whole[name] - kept[name]).square().sum() for name in whole)
    total = sum(matrix.square().sum() for matrix in whole.values())
    assert error == pytest.approx((lost / total).sqrt().item(), rel=1e-3)
    assert 0.5 < error < 1
    assert {len(t) for name, t in small.items() if ".lora_down." in name} == {8}
    again, nothing = lora_tensors(make_concept(tensors=compressed_tensors(concept, 8)), 0)
    assert nothing == 0
    for name, product in products(again).items():
        assert torch.equal(product, kept[name])


def compressed_tensors(concept, rank):
    from personalize.concepts.differences import compressed

    return compressed(concept, rank)[0].tensors


def test_a_product_is_the_difference():
    concept = make_concept()
    for path, (up, down) in factors(concept).items():
        difference = concept.tensors[f"difference.{path}"]
        assert torch.equal(up.float() @ down.float(), difference.float())
        assert up.numel() + down.numel() == difference.numel() + min(difference.shape) ** 2


def test_concepts_without_changes_of_weights_are_refused():
    words = make_concept(method=CROSS_INIT, tensors={})
    with pytest.raises(
        PersonalizeError, match="Cross Init.* changes no weights.*also_as_embedding"
    ):
        lora_tensors(words, 8)
    whole = make_concept(
        method=CUSTOM_DIFFUSION, tensors=whole_tensors({"middle_block.1": random(4, 768)})
    )
    with pytest.raises(PersonalizeError, match="whole weights.*Connect the MODEL"):
        lora_tensors(whole, 8)


def test_what_other_programs_show_of_it():
    concept = make_concept("sd2")
    lora, _ = lora_tensors(concept, 8)
    assert lora_metadata(concept, lora, "embedding:dog dog") == {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "8",
        "ss_network_alpha": "8",
        "ss_base_model_version": "sd_v2",
        "ss_v2": "True",
        "modelspec.title": "my-dog",
        "modelspec.trigger_phrase": "embedding:dog dog",
    }


def test_what_to_write():
    concept = make_concept()
    names = {"": "pets/rex", "pose1": "pets/rex-pose1"}
    assert written_with_embeddings(concept, names) == {
        "": "embedding:pets/rex dog",
        "pose1": "embedding:pets/rex-pose1",
    }


def test_diffusers_knows_every_name():
    """Its own conversion of kohya's names leads to layers that its UNet has."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    lora, _ = lora_tensors(make_concept(), 4)
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    layers = {name for name, _ in unet.named_modules()}
    converted, alphas = _convert_non_diffusers_lora_to_diffusers(dict(lora))
    assert len(converted) == 16 and set(alphas.values()) == {4.0}
    for name in converted:
        match = re.fullmatch(r"unet\.(.+?)(?:_lora|\.lora)\.(?:up|down)\.weight", name)
        assert match and match[1].replace(".processor", "") in layers, name


@pytest.mark.host
@pytest.mark.parametrize(("unet", "base"), [("SD1 and SD2", "sd1"), ("SDXL", "sdxl")])
def test_the_host_knows_every_name(unet, base):
    """Of every cross attention that the host's table has, also of SDXL, in the host's names."""
    from comfy.utils import unet_to_diffusers
    from personalize.concepts.lora import _named

    end = ".attn2.to_k.weight"
    table = {n: p for n, p in unet_to_diffusers(UNETS[unet]).items() if n.endswith(end)}
    paths = {path.removesuffix(".weight"): name for name, path in table.items()}
    named = _named(base, {path: path for path in paths})
    known = {name.removesuffix(".weight").replace(".", "_"): path for name, path in table.items()}
    known |= {path.removesuffix(".weight").replace(".", "_"): path for path in table.values()}
    assert len(named) == len(paths)
    for name, path in named.items():
        assert known[name.removeprefix("lora_unet_")] == f"{path}.weight"


def test_the_help_page_tells_the_sizes_of_sd1():
    channels = [320] * 5 + [640] * 5 + [1280] * 6
    shapes = [(out, 768) for out in channels for _ in "kv"]
    small = sum(32 * (out + width) for out, width in shapes)
    whole = sum(out * width + min(out, width) ** 2 for out, width in shapes)
    page = ROOT / "web" / "docs" / "PersonalizeSaveLoRA.md"
    (row,) = re.findall(r"^\| `rank` \|.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"{2 * small / 1e6:.1f} MB" in row and f"{2 * whole / 1e6:.0f} MB" in row
