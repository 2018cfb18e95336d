"""What the host's UNet is called with, and what is made of its answer."""

from types import SimpleNamespace

import pytest
import torch
from personalize.host.conditioning import Conditioning
from personalize.host.denoiser import Denoiser

pytestmark = pytest.mark.host

SIGMAS = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
X0, NOISE = torch.full((2, 4, 3, 5), 10.0), torch.ones(2, 4, 3, 5)
T = torch.tensor([2, 0])
CONTEXT = Conditioning(torch.zeros(2, 7, 6), torch.ones(2, 6))


class Noising:
    """Its methods give back what they were handed."""

    timesteps = 3

    def sigmas(self, t):
        return SIGMAS[t]

    def noisy(self, x0, noise, sigma):
        return x0 + sigma.view(-1, 1, 1, 1) * noise

    def prediction(self, x, denoised, sigma):
        return "prediction", x, denoised, sigma

    def target(self, x0, noise, sigma):
        return "target", x0, noise, sigma


class Unet:
    """A MODEL whose pass notes how it was called."""

    load_device = torch.device("cpu")

    def __init__(self, **options):
        self.model_options = {"transformer_options": options} if options else {}
        self.model = self

    def get_model_object(self, name):
        assert name == "model_sampling"
        return "sampling"

    def process_latent_in(self, latents):
        return 0.18215 * latents

    def apply_model(self, x, sigma, **call):
        self.call = {"x": x, "sigma": sigma, **call}
        return x / 2


def denoiser(unet):
    def noising(sampling):
        assert sampling == "sampling"
        return Noising()

    def inputs(model, conditioning, size):
        assert model is unet
        return {"y": conditioning.pooled, "size": size}

    return Denoiser(unet, SimpleNamespace(noising=noising, inputs=inputs))


def test_the_unet_is_given_the_noisy_latents_and_the_prompt():
    unet = Unet()
    kind, x, denoised, sigma = denoiser(unet).predict(X0, NOISE, T, CONTEXT)
    assert sigma.tolist() == [4.0, 0.5] and sigma.dtype == torch.float32
    assert x[:, 0, 0, 0].tolist() == [14.0, 10.5]
    assert kind == "prediction" and torch.equal(denoised, x / 2)
    assert torch.equal(unet.call["x"], x) and torch.equal(unet.call["sigma"], sigma)
    assert unet.call["c_crossattn"] is CONTEXT.rows and unet.call["y"] is CONTEXT.pooled
    assert unet.call["size"] == (24, 40)  # height, width in pixels
    options = unet.call["transformer_options"]
    assert options["cond_or_uncond"] == [0] and torch.equal(options["sigmas"], sigma)


def test_the_target_and_the_scale_are_the_bases():
    made = denoiser(Unet())
    kind, x0, noise, sigma = made.target(X0, NOISE, T)
    assert (kind, x0 is X0, noise is NOISE) == ("target", True, True)
    assert sigma.tolist() == [4.0, 0.5]
    assert made.timesteps == 3 and made.scale_latents(torch.ones(1)).item() == pytest.approx(
        0.18215
    )


def test_patches_of_the_model_stay_and_ours_take_one_place():
    theirs = {("input", 1, 0): "theirs", ("middle", 0, 0): "middle"}
    replaced = {"attn1": {("input", 1, 0): "self"}, "attn2": theirs}
    unet = Unet(patches={"input_block_patch": ["a patch"]}, patches_replace=replaced)
    denoiser(unet).predict(X0, NOISE, T, CONTEXT, {("input", 1, 0): "ours"})
    options = unet.call["transformer_options"]
    assert options["patches"] == {"input_block_patch": ["a patch"]}
    assert options["patches_replace"] == {
        "attn1": {("input", 1, 0): "self"},
        "attn2": {("input", 1, 0): "ours", ("middle", 0, 0): "middle"},
    }
    assert theirs[("input", 1, 0)] == "theirs"
    assert unet.model_options["transformer_options"].keys() == {"patches", "patches_replace"}


def test_attention_has_a_backward_pass_whatever_the_host_has_chosen():
    unet = Unet()
    denoiser(unet).predict(X0, NOISE, T, CONTEXT)
    override = unet.call["transformer_options"]["optimized_attention_override"]

    def chosen(*args, **kwargs):
        raise AssertionError("the host's kernel")

    q, k, v = (torch.randn(1, n, 8, requires_grad=True) for n in (3, 5, 5))
    out = override(chosen, q, k, v, 1)
    expected = (q @ k.transpose(1, 2) / 8**0.5).softmax(dim=-1) @ v
    assert torch.allclose(out, expected, atol=1e-5)
    assert all(gradient.any() for gradient in torch.autograd.grad(out.square().sum(), [q, k, v]))
