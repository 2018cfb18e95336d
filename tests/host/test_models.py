"""Models from files outside of the host's server."""

import pytest
import torch
from personalize.concepts.errors import BaseModelError
from personalize.host.models import check_projection, load_checkpoint, load_pack, load_vision
from safetensors.torch import save_file

pytestmark = pytest.mark.host

PACK = """
started = []

class Extension:
    async def on_load(self):
        started.append(True)

async def comfy_entrypoint():
    return Extension()

def load_clip_vision(path):
    return "vision of " + path[-8:]
"""


def test_a_pack_is_started_and_may_know_more_vision_encoders(tmp_path):
    (tmp_path / "__init__.py").write_text(PACK)
    (tmp_path / "v.sft").touch()
    pack = load_pack(tmp_path)
    assert pack.started == [True]
    assert load_vision(tmp_path / "v.sft", [pack]).startswith("vision of ")


def test_a_checkpoint_is_loaded_as_by_the_host(fresh_sd1):
    model, clip, vae = load_checkpoint(fresh_sd1.path)
    theirs = fresh_sd1.model.model.diffusion_model.state_dict()
    for name, weight in model.model.diffusion_model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name
    assert clip.tokenize("dog") == fresh_sd1.clip.tokenize("dog")
    assert vae.latent_channels == 4


def test_a_checkpoint_with_the_projection_of_its_text_encoder(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_file({"cond_stage_model.transformer.text_projection.weight": torch.eye(2)}, path)
    check_projection(path, "Begin otherwise.")


def test_of_two_text_encoders_the_second_ones_projection_counts(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    first = {"conditioner.embedders.0.transformer.text_projection.weight": torch.eye(2)}
    second = {"conditioner.embedders.1.model.ln_final.weight": torch.ones(2)}
    save_file(first | second, path)
    with pytest.raises(BaseModelError, match="no projection of its text"):
        check_projection(path, "Begin otherwise.")
    save_file(first | {"conditioner.embedders.1.model.text_projection": torch.eye(2)}, path)
    check_projection(path, "Begin otherwise.")


def test_files_that_are_not_there_or_no_models(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(BaseModelError, match="There is no .*nowhere.sft.*a checkpoint"):
        load_checkpoint(tmp_path / "nowhere.sft")
    with pytest.raises(BaseModelError, match="other.safetensors is no checkpoint"):
        load_checkpoint(other)
    with pytest.raises(BaseModelError, match="There is no .*nowhere.sft.*a CLIP vision encoder"):
        load_vision(tmp_path / "nowhere.sft", [])
    with pytest.raises(BaseModelError, match="other.safetensors is no CLIP vision encoder"):
        load_vision(other, [])
    with pytest.raises(
        BaseModelError, match="other.safetensors has no projection of its text.*otherwise"
    ):
        check_projection(other, "Begin otherwise.")
    with pytest.raises(BaseModelError, match="There is no .*__init__.py.*custom nodes"):
        load_pack(tmp_path)
