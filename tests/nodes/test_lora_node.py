"""Save Concept as LoRA: the stock Load LoRA draws the same pictures as Apply Concept."""

from dataclasses import replace
from pathlib import Path

import folder_paths
import pytest
import torch
from personalize.concepts.differences import whole_tensors
from personalize.concepts.errors import ConceptFileError, PersonalizeError
from personalize.host.weights import own_weights
from personalize.nodes import lora
from personalize.nodes.lora import SaveLoRA
from personalize.samplers.apply import apply_concept
from personalize.tests.nodes.test_concept_nodes import run
from personalize.tests.samplers.test_local_weights import detex
from personalize.tests.stock import make_concept
from personalize.tests.training.test_learn import sample
from safetensors import safe_open

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("tiny_widths")]


@torch.inference_mode()
def with_lora(tiny, path, strength=1.0):
    from nodes import LoraLoader

    name = str(Path(path).relative_to(folder_paths.get_folder_paths("loras")[0]))
    return LoraLoader().load_lora(tiny.model, tiny.clip, name, strength, strength)


def saved(concept, filename, rank=0, **more):
    output = run(SaveLoRA, concept=concept, filename=filename, rank=rank, **more)
    return output.ui["files"], output.ui["text"][0]


@pytest.fixture(scope="module", params=["tiny_sd1", "tiny_sd2v", "tiny_sdxl"])
def tiny(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_at_full_rank_the_picture_is_that_of_apply_concept(tiny, strength):
    """Bit-equal weights: differences are fp16 already, and their product with 1 is exact."""
    concept = detex(tiny)
    files, text = saved(concept, f"full/{tiny.kind} ({strength})")  # as no prompt can say it
    assert "write embedding:full/" in text and text.count("embedding:") == 2
    name = f"full/{tiny.kind}-{strength}"
    models = with_lora(tiny, files[0], strength)
    _, clip = apply_concept(tiny.model, tiny.clip, concept)
    model, _ = apply_concept(tiny.model, tiny.clip, concept, strength)
    for ours, theirs in (
        ("photo of a <a> on the beach", f"photo of a embedding:{name} dog on the beach"),
        ("a cat with <a:pose1> pose", f"a cat with embedding:{name}-pose1 pose"),
    ):
        mine, stock = sample(tiny, ours, model, clip), sample(tiny, theirs, *models)
        assert torch.equal(mine[0], stock[0])
        assert torch.equal(mine[1], stock[1])
    plain = sample(tiny, "photo of a dog on the beach")
    assert not torch.allclose(plain[1], sample(tiny, "photo of a dog on the beach", *models)[1])


def test_no_key_is_unknown_to_the_host(tiny, caplog):
    files, _ = saved(detex(tiny), f"known/{tiny.kind}", rank=4)
    with_lora(tiny, files[0])
    assert "not loaded" not in caplog.text


def test_a_rank_is_nearer_the_higher_it_is(tiny):
    concept = detex(tiny)
    whole = sample(tiny, "a dog", apply_concept(tiny.model, tiny.clip, concept)[0])[1]
    errors, sizes = [], []
    for rank in (4, 24, 0):
        files, text = saved(concept, f"ranks/{tiny.kind}", rank=rank)
        picture = sample(tiny, "a dog", *with_lora(tiny, files[0]))[1]
        errors.append((picture - whole).norm().item())
        sizes.append(Path(files[0]).stat().st_size)
        assert ("relative error" in text) == bool(rank)
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    assert sizes == sorted(sizes)


def test_the_file_is_one_of_kohyas(tiny_sd1):
    files, _ = saved(detex(tiny_sd1), "described", rank=4)
    with safe_open(files[0], framework="pt") as file:
        metadata, names = file.metadata(), sorted(file.keys())
    assert metadata["ss_base_model_version"] == "sd_v1" and metadata["ss_network_dim"] == "4"
    assert metadata["modelspec.trigger_phrase"] == "embedding:described dog"
    assert names[0] == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha"


def test_nothing_is_overwritten_and_names_stay_together(tiny_sd1):
    concept = detex(tiny_sd1)
    first, _ = saved(concept, "lora-twice.safetensors")
    Path(first[0]).unlink()  # its words still have the name
    second, text = saved(concept, "lora-twice")
    assert [Path(f).name for f in first] == [
        "lora-twice.safetensors",
        "lora-twice.safetensors",
        "lora-twice-pose1.safetensors",
    ]
    assert [Path(f).stem for f in second] == ["lora-twice-2", "lora-twice-2", "lora-twice-2-pose1"]
    assert "embedding:lora-twice-2 dog" in text


def test_a_name_that_is_taken_meanwhile_leaves_no_half(tiny_sd1, monkeypatch):
    """Another program is faster with the second embedding."""
    concept = detex(tiny_sd1)
    write, calls = lora.write_tensors, []

    def slow(tensors, path, *args, **how):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"another's")
        write(tensors, path, *args, **how)

    monkeypatch.setattr(lora, "write_tensors", slow)
    files, _ = saved(concept, "raced")
    assert [Path(f).stem for f in files] == ["raced-2", "raced-2", "raced-2-pose1"]
    assert calls[2].read_bytes() == b"another's"
    assert not calls[0].exists() and not calls[1].exists()


def test_whole_weights_need_the_model(tiny_sd1):
    path = "middle_block.1.transformer_blocks.0.attn2.to_k"
    own = own_weights(tiny_sd1.model, [path])[path]
    concept = detex(tiny_sd1)
    whole = replace(concept, tensors=whole_tensors({path: own + 0.25}))
    with pytest.raises(PersonalizeError, match="Connect the MODEL"):
        saved(whole, "whole")
    files, _ = saved(whole, "whole", model=tiny_sd1.model)
    prompt = "photo of a <a>"
    mine = sample(tiny_sd1, prompt, *apply_concept(tiny_sd1.model, tiny_sd1.clip, whole))
    stock = sample(tiny_sd1, "photo of a embedding:whole dog", *with_lora(tiny_sd1, files[0]))
    assert torch.allclose(mine[1], stock[1], atol=2e-3)  # fp16 rounds what was fp32


def test_what_is_no_lora_writes_nothing(tiny_sd1, host_base):
    before = sorted(host_base.rglob("*.safetensors"))
    with pytest.raises(PersonalizeError, match="changes no weights"):
        saved(make_concept(tiny_sd1), "words")
    with pytest.raises(ConceptFileError, match="is no file name"):
        saved(detex(tiny_sd1), "../../evil")
    assert sorted(host_base.rglob("*.safetensors")) == before
