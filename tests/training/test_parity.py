"""What is computed equals an independent computation by transformers and diffusers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from personalize.host.backbone import Backbone, Precision
from personalize.host.conditioning import Conditioning
from personalize.host.latents import LatentPosterior
from personalize.host.text_encoder import TextEncoder
from personalize.tests.devices import close, device, here, same, there
from personalize.training.batch import Batch
from personalize.training.cross_init import CrossInit, CrossInitConfig, initial_words
from personalize.training.names import known_names
from personalize.training.pictures import EncodedPictures
from personalize.training.textual_inversion import TextualInversion, TextualInversionConfig

pytestmark = pytest.mark.host

TEMPLATES = ("a photo of a {}", "the face of {}, at night")
LATENTS = (2, 4, 8, 8)


def tokenizer_folder():
    from personalize.cli.comfyui import find_host

    host = find_host()
    assert host is not None
    return host / "comfy" / "sd1_tokenizer"


def shape_of(kind):
    from personalize.tests.host_models.families import (
        SIZE_WIDTH,
        TINY_BIGG_TEXT,
        TINY_SD1_TEXT,
        TINY_SD2_TEXT,
        TINY_SDXL_WIDTH,
    )
    from personalize.tests.training.reference import Shape

    unet = {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        "layers_per_block": 1,
    }
    if kind == "sd1":
        unet |= {"attention_head_dim": 4, "cross_attention_dim": 64}
        return Shape(TINY_SD1_TEXT, 4, unet)
    prediction = "v_prediction" if kind.endswith("v") else "epsilon"
    unet |= {"attention_head_dim": (2, 4), "use_linear_projection": True}
    if kind in ("sd2", "sd2v"):
        return Shape(TINY_SD2_TEXT, 3, unet | {"cross_attention_dim": 96}, prediction, pad="!")
    unet |= {
        "cross_attention_dim": TINY_SDXL_WIDTH,
        "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": TINY_BIGG_TEXT["hidden_size"] + SIZE_WIDTH,
    }
    more = {"second": TINY_BIGG_TEXT, "zero_snr": kind == "sdxlv"}
    return Shape(TINY_SD1_TEXT, 4, unet, prediction, **more)


@pytest.fixture
def reference(every_tiny):
    from personalize.tests.training.reference import reference

    return reference(every_tiny.path, shape_of(every_tiny.kind), tokenizer_folder(), words=2)


def make_batch(timesteps=(30, 700), prompt=(0, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(LATENTS, generator=generator) for _ in range(2))
    batch = Batch(x0, noise, torch.tensor(timesteps), torch.zeros(2).long(), torch.tensor(prompt))
    return batch.to(device())


def drawn(batch):
    """x0, noise and t on the CPU, where the reference computes."""
    return here((batch.x0, batch.noise, batch.t))


def no_pictures(count=2):
    """Stand in for what a learner would draw its batches from."""
    zeros = torch.zeros(count, *LATENTS[1:])
    return EncodedPictures(LatentPosterior(zeros, zeros), None)


def settings(**changes):
    lines = "\n".join(TEMPLATES)
    return {"placeholder": "<me>", "templates": lines, "resolution": 64} | changes


def move(learner, seed=5):
    """Take the words away from their start, where the regulariser has no gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        away = torch.randn(learner.words.shape, generator=generator)
        learner.words += 0.1 * away.to(learner.words.device)
    return learner


def loss_and_gradient(backbone, learner, batch):
    """On the CPU."""
    total = torch.stack(list(learner.loss(backbone, batch).values())).sum()
    return here((total.detach(), torch.autograd.grad(total, learner.words)[0]))


def relative(ours, theirs):
    ours, theirs = here((ours, theirs))
    return ((ours - theirs).norm() / theirs.norm()).item()


# --- the initial words ------------------------------------------------------------------------


def random_clip(kind):
    """The host's CLIP of a real base model, SD1 or SD2, with random weights of a sensible size."""
    from comfy import sd, sd1_clip, supported_models_base
    from comfy.text_encoders import sd2_clip

    tokenizer, encoder = {
        "sd1": (sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel),
        "sd2": (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
    }[kind]
    clip = sd.CLIP(
        supported_models_base.ClipTarget(tokenizer, encoder), model_options={"dtype": torch.float32}
    )
    bank = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, (name, weight) in enumerate(clip.cond_stage_model.named_parameters()):
            fill(name, weight, bank[number * 7919 :])
    return clip


def fill(name, weight, numbers):
    """Repeat a bank of random numbers, at the scales of CLIP's own initialisation."""
    scale = 0.05 if weight.ndim < 2 else weight.shape[1] ** -0.5
    for part in weight.view(-1).split(len(numbers)):
        torch.mul(numbers[: len(part)], 0.02 if "embedding" in name else scale, out=part)
    if weight.ndim < 2 and name.endswith("weight"):
        weight += 1.0


class IndependentInit:
    """E(v) of one text encoder by transformers alone."""

    def __init__(self, encoder, shape, layers, pad):
        from personalize.tests.training.reference import TEXT_KEYS, text_model
        from transformers import CLIPTokenizer

        inner = TEXT_KEYS.partition(".")[2]
        weights = encoder.state_dict().items()
        weights = {
            k.removeprefix(inner): here(w.detach()).float() for k, w in weights if inner in k
        }
        self.tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder(), pad_token=pad)
        self.table = weights["embeddings.token_embedding.weight"]
        self.text = text_model(weights, shape, layers)

    def names(self):
        ids = self.tokenizer([f"{first} {last}" for first, last in known_names()]).input_ids
        return torch.stack([self.table[[row[n] for row in ids]].mean(0) for n in (1, 2)])

    def word(self, class_word):
        words = self.table[self.tokenizer(class_word).input_ids[1:-1]]
        return words if len(words) > 1 else words.repeat(2, 1)

    def encode(self, words):
        """Rows 1 to n of what [BOS, words, EOS, pad ...] becomes."""
        count, tokenizer = len(words), self.tokenizer
        table = self.text.embeddings.token_embedding.weight.data
        kept, table[1000 : 1000 + count] = table[1000 : 1000 + count].clone(), words
        ids = [tokenizer.bos_token_id, *range(1000, 1000 + count), tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (77 - len(ids))
        output = self.text(torch.tensor([ids])).last_hidden_state[0, 1 : 1 + count]
        table[1000 : 1000 + count] = kept
        return output

    def cases(self):
        return {
            "names": self.encode(self.names()),
            "dog": self.encode(self.word("dog")),
            "old teddy bear": self.encode(self.word("old teddy bear")),
        }


@torch.no_grad()
def worst_difference(clip, shape):
    """Of the words that Cross Initialization starts from, over all text encoders."""
    with torch.inference_mode():
        clip.load_model()
    text, model, worst = TextEncoder(clip), clip.cond_stage_model, 0.0
    encoders = [(shape.text, shape.layers, shape.pad)]
    if shape.second is not None:  # the whole encoders, with the final norm that contexts lack
        encoders.append((shape.second, shape.second["num_hidden_layers"], "!"))
    theirs = [
        IndependentInit(getattr(model, name), *of_encoder).cases()
        for name, of_encoder in zip(text.base.encoder_names, encoders, strict=True)
    ]
    for word in theirs[0]:
        origin: dict[str, Any] = (
            {} if word == "names" else {"init_from": "class word", "class_word": word}
        )
        ours = initial_words(text, CrossInitConfig(placeholder="<me>", **origin))
        for part, cases in zip(text.split(ours), theirs, strict=True):
            expected = cases[word]
            assert part.shape == expected.shape
            assert 0.1 < expected.std() < 10
            worst = max(worst, (here(part) - expected).abs().max().item())
    return worst


def test_init_vectors_equal_transformers_on_a_tiny_model(tiny_base):
    assert worst_difference(tiny_base.clip, shape_of(tiny_base.kind)) < 1e-5


@pytest.mark.parametrize(
    ("kind", "layers", "pad"), [("sd1", 12, "<|endoftext|>"), ("sd2", 23, "!")]
)
def test_init_vectors_equal_transformers_at_real_widths(kind, layers, pad):
    from personalize.tests.training.reference import SD1_TEXT, SD2_TEXT, Shape

    shape = Shape({"sd1": SD1_TEXT, "sd2": SD2_TEXT}[kind], layers, {}, pad=pad)
    assert worst_difference(random_clip(kind), shape) < 1e-5


# --- one training step ------------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [(30, 700), (999, 0)])
def test_textual_inversion_gradient_equals_diffusers(every_tiny, reference, timesteps):
    backbone, batch = Backbone(every_tiny.model, every_tiny.clip), make_batch(timesteps)
    with backbone.session(LATENTS):
        config = TextualInversionConfig(**settings(init_word="dog", vectors=2))
        learner = move(TextualInversion(config, backbone, no_pictures()))
        loss, gradient = loss_and_gradient(backbone, learner, batch)
    words = here(learner.words.detach()).clone().requires_grad_()
    prompts = [template.format("<v0> <v1>") for template in TEMPLATES]
    expected = reference.loss(words, prompts, *drawn(batch))
    theirs = torch.autograd.grad(expected, words)[0]
    assert theirs.norm() > 1e-3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert relative(gradient, theirs) < 1e-4


@pytest.mark.parametrize("regulariser", ["distance", "squared"])
def test_cross_init_gradient_equals_diffusers(every_tiny, reference, regulariser):
    backbone, batch = Backbone(every_tiny.model, every_tiny.clip), make_batch()
    with backbone.session(LATENTS):
        config = CrossInitConfig(**settings(regulariser=regulariser, reg_weight=0.01))
        learner = move(CrossInit(config, backbone, no_pictures()))
        loss, gradient = loss_and_gradient(backbone, learner, batch)
    words = here(learner.words.detach()).clone().requires_grad_()
    prompts = [template.format("face of <v0> <v1> person") for template in TEMPLATES]
    apart = words - here(learner.initial)
    parts = backbone.split(apart)  # each text encoder's own
    distances = sum(part.norm(dim=1).mean() for part in parts)
    penalty = distances if regulariser == "distance" else apart.norm() ** 2
    expected = reference.loss(words, prompts, *drawn(batch)) + 0.01 * penalty
    theirs = torch.autograd.grad(expected, words)[0]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert relative(gradient, theirs) < 1e-4


@pytest.mark.parametrize("reg_weight", [0.0, 0.01])
def test_finite_differences_agree_with_the_gradient(every_tiny, reg_weight):
    backbone, batch = Backbone(every_tiny.model, every_tiny.clip), make_batch((300, 700))
    generator = torch.Generator().manual_seed(3)
    with backbone.session(LATENTS):
        learner = cross_init(backbone, reg_weight=reg_weight)
        gradient = loss_and_gradient(backbone, learner, batch)[1]
        directions = [torch.randn(gradient.shape, generator=generator) for _ in range(4)]
        for direction in (gradient, *directions):
            direction = direction / direction.norm()
            error = slope(backbone, learner, batch, direction) - (gradient * direction).sum()
            assert abs(error) < 3e-3 * gradient.norm()


def cross_init(backbone, **changes):
    return move(CrossInit(CrossInitConfig(**settings(**changes)), backbone, no_pictures()))


@torch.no_grad()
def slope(backbone, learner, batch, direction, step=0.1):
    """Central differences of the loss, with the error in step^2 taken out (Richardson)."""
    start = learner.words.clone()
    rises = []
    for offset in (step, -step, step / 2, -step / 2):
        learner.words.copy_(start + offset * there(direction))
        rises.append(sum(here(term).double() for term in learner.loss(backbone, batch).values()))
    learner.words.copy_(start)
    wide, narrow = (rises[0] - rises[1]) / (2 * step), (rises[2] - rises[3]) / step
    return (4 * narrow - wide) / 3


# --- the host's own forward passes ------------------------------------------------------------


@torch.inference_mode()
def skipped(clip, stop_at):
    from nodes import CLIPSetLastLayer

    return CLIPSetLastLayer().set_last_layer(clip, stop_at)[0] if stop_at else clip


@torch.inference_mode()
def stock_encoding(clip, prompt):
    from nodes import CLIPTextEncode

    rows, extra = CLIPTextEncode().encode(clip, prompt)[0][0]
    return rows, extra["pooled_output"]


PROMPTS = ["", "a photo of a dog", "a castle on a hill with many towers and flags " * 7]


@pytest.mark.parametrize("stop_at", [None, -1, -2, -3, -4])
def test_encodes_as_the_host_does(tiny_base, stop_at):
    clip = skipped(tiny_base.clip, stop_at)
    backbone = Backbone(tiny_base.model, clip)
    stock = [stock_encoding(clip, prompt) for prompt in PROMPTS]
    with backbone.session(LATENTS):
        text = backbone.text
        for prompt, (rows, pooled) in zip(PROMPTS, stock, strict=True):
            prompts = text.prompts([prompt])
            prompts.rows.requires_grad_()
            ours = text.encode(prompts)
            assert same(ours.rows.detach(), rows)
            if ours.pooled is not None:
                assert same(ours.pooled.detach(), pooled)


def test_predicts_as_the_hosts_unet_does(every_tiny):
    backbone, batch = Backbone(every_tiny.model, every_tiny.clip), make_batch((0, 999))
    generator = torch.Generator().manual_seed(2)
    told, pooled = {}, None
    if every_tiny.kind in ("sdxl", "sdxlv"):
        pooled = there(torch.randn(2, 96, generator=generator))
        sizes = {"height": 64, "width": 64}
        told = {"y": every_tiny.model.model.encode_adm(pooled_output=pooled, **sizes)}
    with backbone.session(LATENTS), torch.no_grad():
        context = there(torch.randn(2, 77, backbone.text.width, generator=generator))
        conditioning = Conditioning(context, pooled)
        ours = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, conditioning)
    with torch.inference_mode():
        sampling = every_tiny.model.get_model_object("model_sampling")
        sigma = there(here(sampling.sigmas)[here(batch.t)])
        x = batch.x0 + sigma.view(-1, 1, 1, 1) * batch.noise
        unet = every_tiny.model.model.diffusion_model
        raw = unet(sampling.calculate_input(sigma, x), batch.t.float(), context=context, **told)
    assert close(ours, raw, atol=2e-5)


# --- options of the step ----------------------------------------------------------------------


def step_with(tiny, **options):
    backbone, batch = Backbone(tiny.model, tiny.clip, **options), make_batch()
    with backbone.session(LATENTS):
        return loss_and_gradient(backbone, cross_init(backbone), batch)


def test_gradient_checkpointing_changes_nothing(tiny_base):
    loss, gradient = step_with(tiny_base)
    same_loss, same_gradient = step_with(tiny_base, gradient_checkpointing=True)
    assert torch.equal(loss, same_loss)
    assert torch.equal(gradient, same_gradient)


@pytest.mark.parametrize("precision", list(Precision))
def test_every_precision_gives_nearly_the_same_gradient(tiny_base, precision):
    loss, gradient = step_with(tiny_base)
    near_loss, near_gradient = step_with(tiny_base, precision=precision)
    tolerance = {Precision.BF16: 0.05, Precision.FP16: 0.01}.get(precision, 0.0)
    assert relative(near_gradient, gradient) <= tolerance
    assert near_loss.item() == pytest.approx(loss.item(), rel=tolerance / 5)


def test_gradient_checkpointing_keeps_anothers_patch_of_a_block(tiny_sd1):
    path = "diffusion_model.middle_block.1"
    model = tiny_sd1.model.clone()
    block = model.get_model_object(path)
    forward = block.forward
    model.add_object_patch(
        f"{path}.forward", lambda *args, **kwargs: 0.5 * forward(*args, **kwargs)
    )
    plain, patched = step_with(tiny_sd1), step_with(replace(tiny_sd1, model=model))
    options = {"gradient_checkpointing": True}
    again = step_with(replace(tiny_sd1, model=model), **options)
    assert block.forward is model.object_patches[f"{path}.forward"]
    assert torch.equal(again[1], patched[1])
    assert not torch.equal(patched[1], plain[1])
    assert torch.equal(step_with(tiny_sd1)[1], plain[1])
    vars(block).pop("forward", None)  # where the host leaves the original


def test_casts_of_the_text_weights_are_not_kept(tiny_sd1):
    """Another text encoder in fp32, if they were."""
    backbone, kept = Backbone(tiny_sd1.model, tiny_sd1.clip), []

    def pack(tensor):
        kept.append(tensor.shape)
        return tensor

    with backbone.session(LATENTS):
        learner = cross_init(backbone)
        embeds = learner.table.embed(backbone.text, torch.tensor([0]), learner.words)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            backbone.text.encode(embeds)
        assert kept
        assert not {(256, 64), (64, 256)} & set(map(tuple, kept))
