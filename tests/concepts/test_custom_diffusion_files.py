"""Custom Diffusion's files of three programs: the same weights under the host's names."""

from pathlib import Path

import pytest
import torch
from personalize.concepts.differences import weight_differences, whole_weights
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.methods import CUSTOM_DIFFUSION, TEXTUAL_INVERSION
from personalize.concepts.unet_paths import diffusers_block
from safetensors.torch import save_file

CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases" / "embeddings"
BLOCKS = [
    "input_blocks.1.1.transformer_blocks.0",
    "middle_block.1.transformer_blocks.0",
    "output_blocks.11.1.transformer_blocks.0",
]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(width=768):
    """By the host's path: three cross attentions, of few channels."""
    return {
        f"{block}.attn2.to_{letter}": random(6, width, seed=2 * n + (letter == "v"))
        for n, block in enumerate(BLOCKS)
        for letter in "kv"
    }


def name_in_diffusers(path):
    block, _, layer = path.partition(".attn2.")
    return f"{diffusers_block(block)}.attn2", layer


def delta_ckpt(width=768, words=1):
    state = {f"model.diffusion_model.{path}.weight": w for path, w in weights(width).items()}
    return {"state_dict": {"embed": random(words, width, seed=9), **state}}


def delta_bin(width=768, words=1):
    names = {path: ".".join(name_in_diffusers(path)) for path in weights(width)}
    rows = random(words, width, seed=9)
    return {
        "unet": {f"{names[path]}.weight": w for path, w in weights(width).items()},
        "modifier_token": {f"<new{n + 1}>": row for n, row in enumerate(rows)},
    }


def of_diffusers(width=768):
    found = {}
    for path, weight in weights(width).items():
        block, layer = name_in_diffusers(path)
        found[f"{block}.processor.{layer}_custom_diffusion.weight"] = weight
    return found


def write_diffusers(folder, width=768, words=1, suffix="bin", name="<new{}>"):
    """The weights' file of diffusers' example, and beside it one for each word."""
    folder.mkdir(parents=True, exist_ok=True)
    save = save_file if suffix == "safetensors" else torch.save
    path = folder / f"pytorch_custom_diffusion_weights.{suffix}"
    save(of_diffusers(width), path)
    for n, row in enumerate(random(words, width, seed=9)):
        save({f"<new{n + 1}>": row.clone()}, folder / f"{name.format(n + 1)}.{suffix}")
    return path


def write(content, path):
    torch.save(content, path)
    return path


PROGRAMS = {
    "the authors' first program": lambda folder, **how: write(
        delta_ckpt(**how), folder / "delta_epoch=000004.ckpt"
    ),
    "the authors' program for diffusers": lambda folder, **how: write(
        delta_bin(**how), folder / "delta.bin"
    ),
    "diffusers": write_diffusers,
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("base", "width"), [("sd1", 768), ("sd2", 1024)])
def test_the_word_and_the_weights_of_each_program(program, base, width, tmp_path):
    concept = load_concept(PROGRAMS[program](tmp_path, width=width))
    assert (concept.method, concept.base) == (CUSTOM_DIFFUSION, base)
    assert (concept.placeholder, concept.class_word) == ("<new1>", "")
    assert torch.equal(concept.words[""], random(1, width, seed=9))
    found = whole_weights(concept)
    assert found.keys() == weights(width).keys()
    assert all(torch.equal(found[path], w) for path, w in weights(width).items())
    assert weight_differences(concept) == {}


@pytest.mark.parametrize("program", PROGRAMS)
def test_words_that_were_trained_together_are_one_concept(program, tmp_path):
    path = PROGRAMS[program](tmp_path, words=2)
    rows = random(2, 768, seed=9)
    concept = load_concept(path)
    assert concept.placeholder == "<new1>"
    assert torch.equal(torch.cat([concept.words[""], concept.words["new2"]]), rows)
    second = load_concept(path, token="new2")
    assert second.placeholder == "<new2>"
    assert torch.equal(torch.cat([second.words["new1"], second.words[""]]), rows)
    with pytest.raises(ConceptFileError, match="no concept named <new3>, but <new1>, <new2>"):
        load_concept(path, token="<new3>")


def test_a_word_that_no_prompt_could_name_is_called_by_its_number(tmp_path):
    content, rows = delta_bin(), random(4, 768, seed=9)
    names = ("<new1>", "<Teapot2>", "<my cat>", "<3>")
    content["modifier_token"] = dict(zip(names, rows, strict=True))
    words = load_concept(write(content, tmp_path / "delta.bin")).words
    assert list(words) == ["", "teapot2", "word3", "word4"]
    assert torch.equal(torch.cat(list(words.values())), rows)


def test_compressed_deltas_are_differences(tmp_path):
    content = delta_bin()
    factors = {
        name: {"u": w[:, :2].clone(), "v": w[:2].clone()} for name, w in content["unet"].items()
    }
    concept = load_concept(write(content | {"unet": factors}, tmp_path / "compressed_delta.bin"))
    assert whole_weights(concept) == {}
    for path, difference in weight_differences(concept).items():
        whole = weights()[path]
        assert torch.equal(difference, whole[:, :2] @ whole[:2])


def test_diffusers_safetensors_and_names_that_windows_can_have(tmp_path):
    for folder, how in (("safe", {"suffix": "safetensors"}), ("renamed", {"name": "_new{}_"})):
        concept = load_concept(write_diffusers(tmp_path / folder, **how))
        assert torch.equal(concept.words[""], random(1, 768, seed=9))
    other = write_diffusers(tmp_path / "other", name="my cat {}")
    with pytest.raises(ConceptFileError, match="one half.*the weights.*token"):
        load_concept(other)
    assert torch.equal(load_concept(other, token="<new1>").words[""], random(1, 768, seed=9))


def test_half_a_concept_is_told_as_a_half(tmp_path):
    weights_alone = write(of_diffusers(), tmp_path / "pytorch_custom_diffusion_weights.bin")
    state = delta_ckpt()["state_dict"]
    del state["embed"]
    halves = {
        weights_alone: "weights",
        write({"state_dict": state}, tmp_path / "delta.ckpt"): "weights",
        write(delta_bin() | {"modifier_token": {}}, tmp_path / "delta.bin"): "weights",
        write(delta_bin() | {"unet": {}}, tmp_path / "word.bin"): "word",
        write({"state_dict": {"embed": random(1, 768)}}, tmp_path / "word.ckpt"): "word",
    }
    for path, half in halves.items():
        with pytest.raises(
            ConceptFileError, match=rf"'{path.name}' is one half.*, the {half}. Expected .*: "
        ):
            load_concept(path)


def test_the_word_alone_loads_and_says_that_it_is_a_half(tmp_path):
    path = write_diffusers(tmp_path)
    concept = load_concept(tmp_path / "<new1>.bin")
    assert concept.method is TEXTUAL_INVERSION
    assert concept.training["left_out"] == [path.name]


def with_layer(name):
    content = delta_bin()
    content["unet"][name] = random(6, 6)
    return content


REFUSED = {
    "queries": (
        with_layer("mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"),
        "trained to_q layers. Expected the keys and values.*Train it again with freeze_model",
    ),
    "outputs": (
        of_diffusers()
        | {
            "mid_block.attentions.0.transformer_blocks.0.attn2.processor"
            ".to_out_custom_diffusion.0.bias": random(6)
        },
        "trained to_out layers. Expected the keys and values",
    ),
    "a text encoder": (
        delta_bin() | {"text_encoder": {"x": random(2)}},
        "trained text encoder. Expected the keys and values",
    ),
    "another layer": (with_layer("conv_in.weight"), "found conv_in.weight. Take the file"),
    "half a factor": (
        {"unet": {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": {"u": 1}}},
        "Expected a weight, or its two factors",
    ),
    "a word for two text encoders": (
        delta_bin() | {"modifier_token": {"<new1>": [random(768), random(1280)]}},
        r"word of 2 parts. Expected one for each text encoder of Stable Diffusion 1\.x, clip_l",
    ),
    "half a word for SDXL": (
        delta_bin(width=2048) | {"modifier_token": {"<new1>": random(768)}},
        "word of 1 parts. Expected .* of Stable Diffusion XL, clip_l and clip_g",
    ),
    "another base": (delta_bin(width=640), r"widths \[640\]. Expected one of 768 .*1024 "),
    "another word": (
        delta_bin() | {"modifier_token": {"<new1>": random(1024)}},
        "width 768.*got a tensor",
    ),
    "NaN": (
        delta_bin() | {"unet": {name: w * float("nan") for name, w in delta_bin()["unet"].items()}},
        "NaN or infinite numbers",
    ),
}


def test_a_delta_for_sdxl(tmp_path):
    """The authors' program writes a word's vectors as a list, one for each text encoder."""
    word = [random(768), random(1280)]
    delta = delta_bin(width=2048) | {"modifier_token": {"<new1>": word}}
    concept = load_concept(write(delta, tmp_path / "delta.bin"))
    assert (concept.base, concept.placeholder) == ("sdxl", "<new1>")
    assert torch.equal(concept.words[""], torch.cat(word)[None])
    assert whole_weights(concept).keys() == weights().keys()


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(case, tmp_path):
    content, message = REFUSED[case]
    with pytest.raises(ConceptFileError, match=message) as caught:
        load_concept(write(content, tmp_path / "delta.bin"))
    assert "'delta.bin'" in str(caught.value)


def test_saved_again_it_is_the_same(tmp_path):
    concept = load_concept(write(delta_bin(words=2), tmp_path / "delta.bin"))
    save_concept(concept, tmp_path / "cat.safetensors")
    again = load_concept(tmp_path / "cat.safetensors")
    for path, weight in whole_weights(again).items():
        assert torch.equal(weight, weights()[path])
    assert again.words.keys() == {"", "new2"}


def test_shared_cases():
    if not CASES.is_dir():
        pytest.skip("the shared cases are not here")
    concept = load_concept(CASES / "adobe_delta_small.bin")
    assert concept.method is CUSTOM_DIFFUSION
    path = "input_blocks.1.1.transformer_blocks.0.attn2"
    assert list(whole_weights(concept)) == [f"{path}.to_k"]
    weights_file = CASES / "diffusers_cd_weights.bin"
    with pytest.raises(ConceptFileError, match="one half"):
        load_concept(weights_file)
    concept = load_concept(weights_file, token="<new1>")
    assert sorted(whole_weights(concept)) == [f"{path}.to_k", f"{path}.to_v"]
    word = torch.load(CASES / "diffusers_new1.bin", weights_only=True)["<new1>"]
    assert torch.equal(concept.words[""], word[None])
