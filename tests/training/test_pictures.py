"""Latents of pictures come from the posterior."""

from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.errors import BaseModelError
from personalize.host.latents import LatentPosterior, encode_posterior
from personalize.tests.devices import close, here, same, there
from personalize.training.pictures import EncodedPictures, encode_pictures
from torch import Generator

pytestmark = pytest.mark.host


def gradient_picture(height, width):
    """Red grows to the right, green downwards."""
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return torch.stack([columns, rows, torch.zeros_like(rows)], dim=-1)


def test_flips_are_of_pictures_not_of_latents(tiny_sd1):
    picture = [gradient_picture(64, 64)]
    encoded = encode_pictures(tiny_sd1.vae, picture, 64, flip=True)
    mirrored = encode_pictures(tiny_sd1.vae, [picture[0].flip(1)], 64, flip=False)
    assert encoded.mirrored is not None
    assert same(encoded.mirrored.mean, mirrored.upright.mean)
    assert not torch.allclose(encoded.upright.mean.flip(3), encoded.mirrored.mean, atol=1e-3)


def test_sampling_takes_the_mirrored_rows_it_is_told():
    plain = LatentPosterior(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    flipped = LatentPosterior(torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    pictures = EncodedPictures(plain, flipped)
    index, mirrored = torch.tensor([0, 1, 1]), torch.tensor([True, False, True])
    latents = pictures.sample(index, mirrored, Generator().manual_seed(0))
    assert latents.flatten().tolist() == [1, 0, 1]


@pytest.fixture(scope="module")
def kl_vae():
    """The host's real KL VAE with random weights (TAESD, which the tiny models have, has none)."""
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.sd import VAE

    config = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    generator = Generator().manual_seed(0)
    shapes = AutoencoderKL(ddconfig=config, embed_dim=4).state_dict()
    weights = {}
    for name, value in shapes.items():
        scale = max(value[0].numel(), 1) ** -0.5 if value.ndim > 1 else 0.1
        weights[name] = scale * torch.randn(value.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weights[name] = torch.ones(value.shape)
    with torch.inference_mode():
        return VAE(sd=weights)


def test_the_posterior_is_the_vaes_own(kl_vae):
    picture = gradient_picture(64, 64)[None]
    posterior = encode_posterior(kl_vae, picture)
    assert posterior.mean.shape == posterior.std.shape == (1, 4, 8, 8)
    with torch.inference_mode():
        model = kl_vae.first_stage_model
        moments = model.quant_conv(
            model.encoder(there(picture.movedim(-1, 1).to(kl_vae.vae_dtype)) * 2 - 1)
        )
    mean, log_variance = here(moments).float().chunk(2, dim=1)
    assert close(posterior.mean, mean)
    assert close(posterior.std, (0.5 * log_variance.clamp(-30, 20)).exp())
    assert not model.regularization._forward_pre_hooks


def test_latents_are_sampled_anew_from_mean_and_std(kl_vae):
    posterior = encode_posterior(kl_vae, gradient_picture(64, 64)[None])
    generator = Generator().manual_seed(3)
    drawn = posterior.sample(torch.zeros(400, dtype=torch.long), generator)
    error = (drawn.mean(dim=0) - posterior.mean[0]).abs() / posterior.std[0]
    assert error.max() < 6 / 400**0.5
    assert torch.allclose(drawn.std(dim=0) / posterior.std[0], torch.tensor(1.0), atol=0.25)


def test_a_vae_of_another_family_is_refused(tiny_sd1):
    class Wide:
        latent_channels = 16
        first_stage_model = tiny_sd1.vae.first_stage_model

    with pytest.raises(BaseModelError, match="16 latent channels.*with 4"):
        encode_posterior(Wide(), torch.rand(1, 64, 64, 3))


def test_a_picture_has_the_same_bits_in_any_company(tiny_sd1, kl_vae):
    pictures = torch.rand(3, 64, 64, 3, generator=Generator().manual_seed(5))
    for vae in (tiny_sd1.vae, kl_vae):
        together, alone = (encode_posterior(vae, some) for some in (pictures, pictures[1:2]))
        assert torch.equal(together.mean[1:2], alone.mean)  # on every device
        assert torch.equal(together.std[1:2], alone.std)


def test_tiles_are_told_and_have_no_deviation(kl_vae, monkeypatch, caplog):
    """What the host does when the VAE runs out of memory."""
    pictures = torch.rand(2, 64, 64, 3, generator=Generator().manual_seed(5))
    whole, encode = encode_posterior(kl_vae, pictures), kl_vae.first_stage_model.encode
    calls = []

    def too_large_at_first(pixels):
        calls.append(pixels)
        if len(calls) == 2:  # the second picture
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(pixels)

    monkeypatch.setattr(kl_vae.first_stage_model, "encode", too_large_at_first)
    tiled = encode_posterior(kl_vae, pictures)
    assert len(calls) > 3
    assert "too little memory for 1 of 2 pictures of 64 x 64" in caplog.text
    assert torch.equal(tiled.mean[0], whole.mean[0]) and torch.equal(tiled.std[0], whole.std[0])
    assert not tiled.std[1].any() and torch.allclose(tiled.mean[1], whole.mean[1], atol=1e-4)
    assert not kl_vae.first_stage_model.regularization._forward_pre_hooks


def test_a_vae_that_overflows_is_told():
    """That of Stable Diffusion XL does in fp16."""
    overflown = SimpleNamespace(
        latent_channels=4,
        first_stage_model=torch.nn.Identity(),
        encode=lambda picture: torch.full((1, 4, 8, 8), float("nan")),
    )
    with pytest.raises(BaseModelError, match=r"not finite numbers.*--bf16-vae or --fp32-vae"):
        encode_posterior(overflown, torch.rand(1, 64, 64, 3))
