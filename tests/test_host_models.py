import pytest
import torch

pytestmark = pytest.mark.host


def encode(clip, text):
    from nodes import CLIPTextEncode

    return CLIPTextEncode().encode(clip, text)[0]


@torch.inference_mode()
def sample(tiny, positive, negative, seed=3):
    from nodes import KSampler

    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    settings = (seed, 2, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    return KSampler().sample(tiny.model, *settings)[0]["samples"]


def test_encodes_prompts_with_the_width_of_the_unet(tiny):
    dog, cat = encode(tiny.clip, "a photo of a dog"), encode(tiny.clip, "a photo of a cat")
    width = tiny.model.model.model_config.unet_config["context_dim"]
    assert dog[0][0].shape == (1, 77, width)
    assert width == {"sd1": 64}.get(tiny.kind, 96)
    assert not torch.equal(dog[0][0], cat[0][0])
    assert 0.5 < dog[0][0].std() < 2


def test_text_key_layer_and_padding(tiny):
    clip = tiny.clip.cond_stage_model
    padding = tiny.clip.tokenize("dog")[clip.clip_name][0][-1][0]
    if tiny.kind == "sd1":
        assert (clip.clip, clip.clip_l.layer, padding) == ("clip_l", "last", 49407)
    else:
        assert (clip.clip, clip.clip_h.layer, clip.clip_h.layer_idx) == ("clip_h", "hidden", -2)
        assert padding == 0


def test_prediction_type(tiny):
    kind = tiny.model.model.model_type.name
    assert kind == ("V_PREDICTION" if tiny.kind == "sd2v" else "EPS")


def test_samples_are_deterministic_and_follow_prompt_and_seed(tiny):
    dog, empty = encode(tiny.clip, "a photo of a dog"), encode(tiny.clip, "")
    first = sample(tiny, dog, empty)
    assert torch.isfinite(first).all() and first.std() < 100
    assert torch.equal(first, sample(tiny, dog, empty))
    assert not torch.allclose(first, sample(tiny, encode(tiny.clip, "a cat"), empty))
    assert not torch.allclose(first, sample(tiny, dog, empty, seed=4))


@torch.inference_mode()
def test_vae_encodes_to_f8_latents_and_back(tiny):
    images = torch.rand(2, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    latents = tiny.vae.encode(images)
    assert latents.shape == (2, 4, 8, 12)
    assert 0.2 < tiny.model.model.process_latent_in(latents).std() < 2
    assert tiny.vae.decode(latents).shape == images.shape


def test_same_seed_same_file(tmp_path):
    from personalize.tests.host_models import make_checkpoint

    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        make_checkpoint(path, "sd1", seed)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b and a != c
