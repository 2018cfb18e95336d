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


def test_encodes_prompts_with_the_width_of_the_unet(every_tiny):
    dog, cat = (
        encode(every_tiny.clip, "a photo of a dog"),
        encode(every_tiny.clip, "a photo of a cat"),
    )
    width = every_tiny.model.model.model_config.unet_config["context_dim"]
    assert dog[0][0].shape == (1, 77, width)
    assert width == {"sd1": 64, "sdxl": 160, "sdxlv": 160}.get(every_tiny.kind, 96)
    assert not torch.equal(dog[0][0], cat[0][0])
    assert 0.5 < dog[0][0].std() < 2


def test_text_key_layer_and_padding(every_tiny):
    layers = {
        "sd1": {"clip_l": ("last", None, 49407)},
        "sd2": {"clip_h": ("hidden", -2, 0)},
        "sdxl": {"clip_l": ("hidden", -2, 49407), "clip_g": ("hidden", -2, 0)},
    }
    tokens = every_tiny.clip.tokenize("dog")
    for name, wanted in layers[every_tiny.kind.removesuffix("v")].items():
        encoder = getattr(every_tiny.clip.cond_stage_model, name)
        padding = tokens[name.removeprefix("clip_")][0][-1][0]
        assert (encoder.layer, encoder.layer_idx, padding) == wanted


def test_prediction_type(every_tiny):
    kind = every_tiny.model.model.model_type.name
    assert kind == ("V_PREDICTION" if every_tiny.kind.endswith("v") else "EPS")
    noisiest = every_tiny.model.get_model_object("model_sampling").sigma_max.item()
    assert noisiest == pytest.approx(4518 if every_tiny.kind == "sdxlv" else 14.6, rel=0.01)


def test_samples_are_deterministic_and_follow_prompt_and_seed(every_tiny):
    dog, empty = encode(every_tiny.clip, "a photo of a dog"), encode(every_tiny.clip, "")
    first = sample(every_tiny, dog, empty)
    assert torch.isfinite(first).all()
    assert every_tiny.model.model.process_latent_in(first).std() < 18
    assert torch.equal(first, sample(every_tiny, dog, empty))
    assert not torch.allclose(first, sample(every_tiny, encode(every_tiny.clip, "a cat"), empty))
    assert not torch.allclose(first, sample(every_tiny, dog, empty, seed=4))


@torch.inference_mode()
def test_vae_encodes_to_f8_latents_and_back(every_tiny):
    images = torch.rand(2, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    latents = every_tiny.vae.encode(images)
    assert latents.shape == (2, 4, 8, 12)
    assert 0.2 < every_tiny.model.model.process_latent_in(latents).std() < 2
    assert every_tiny.vae.decode(latents).shape == images.shape


def test_only_the_tiny_vaes_are_narrow(tiny_sd1, host_base):
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD
    from personalize.tests.host_models.narrow_vae import WIDTH

    def widths(model):
        return {weight.shape[0] for weight in model.parameters() if weight.ndim == 4}

    whole = TAESD()
    as_read = VAE({key: weight.clone() for key, weight in whole.state_dict().items()})
    assert widths(as_read.first_stage_model) == widths(whole) == {64, 4, 3}
    assert widths(tiny_sd1.vae.first_stage_model) == {WIDTH, 4, 3}


def test_same_seed_same_file(tmp_path):
    from personalize.tests.host_models import make_checkpoint

    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        make_checkpoint(path, "sd1", seed)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b and a != c
