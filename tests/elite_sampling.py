"""ELITE's sampling written plainly, every attention map in memory, and what its tests share."""

from dataclasses import dataclass, replace

import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.samplers.apply import apply_concept
from personalize.samplers.local_attention import Details
from personalize.tests.devices import here

PROMPT = "a photo of <rex> on the beach"
EVERYTHING = Details(0.8)


def elite_concept(encoder, placeholder="<rex>", seed=0, patches=16, class_word="dog"):
    generator = torch.Generator().manual_seed(seed)
    width = encoder.text_width
    local = torch.randn(patches, width, generator=generator)
    local[: patches // 4] = 0  # behind the mask
    words = {name: torch.randn(1, width, generator=generator) for name in ("", "word1", "word2")}
    return Concept(
        methods.ELITE, encoder.base, width, placeholder, class_word, words, {"local": local},
        encoder=encoder,
    )  # fmt: skip


def as_words(concept):
    """The same words as a method that patches no model."""
    return replace(concept, method=methods.TEXTUAL_INVERSION, tensors={}, encoder=None)


@torch.inference_mode()
def conditioning(clip, prompt):
    from nodes import CLIPTextEncode

    return CLIPTextEncode().encode(clip, prompt)[0]


@torch.inference_mode()
def sample(model, positive, negative, cfg=3.0, noise=None, steps=4, latent=None, denoise=1.0):
    """Latents of 4 steps, as the KSampler makes them."""
    from comfy import sample as host_sample

    noise = latents() if noise is None else noise
    latent = torch.zeros_like(noise) if latent is None else latent
    return host_sample.sample(
        model, noise, steps, cfg, "euler", "normal", positive, negative, latent,
        denoise=denoise, disable_pbar=True, seed=0,
    )  # fmt: skip


def latents(count=1, height=8, width=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, height, width or height, generator=generator)


def drawn(tiny, concept, strength=1.0, details=EVERYTHING, prompt=PROMPT, **more):
    model, clip = apply_concept(tiny.model, tiny.clip, concept, strength, details=details)
    return sample(model, conditioning(clip, prompt), conditioning(clip, ""), **more)


def distance(one, other):
    one, other = here((one, other))
    return ((one - other).norm() / other.norm()).item()


# --- a plain implementation -------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """What one concept adds to a conditioning that names it."""

    rows: list
    features: torch.Tensor
    projections: dict  # (to_k, to_v) by block
    weight: float


def plain_attention(q, k, v, heads):
    """softmax(Q K^T / sqrt(d)) V and the maps themselves, (heads, N, T)."""
    q, k, v = (t.view(t.shape[0], heads, -1).transpose(0, 1) for t in (q, k, v))
    maps = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (maps @ v).transpose(0, 1).flatten(1), maps


def plain_elite(q, context, heads, kv, locals_, path=""):
    """One sample: q (N, C), context (T, d), kv the global projections (to_k, to_v)."""
    kv = [weight.to(q.device) for weight in kv]
    out, maps = plain_attention(q, context @ kv[0].T, context @ kv[1].T, heads)
    for one in locals_:
        looks = maps[:, :, one.rows].sum(dim=2)
        ratio = looks / looks.max()
        features, to_k, to_v = (t.to(q.device) for t in (one.features, *one.projections[path]))
        local, _ = plain_attention(q, features @ to_k.T, features @ to_v.T, heads)
        local = local.view(len(q), heads, -1) * ratio.T[..., None]
        out = out + one.weight * local.flatten(1)
    return out


def plain_model(tiny, kv, mentions):
    """The MODEL with the forward of every cross attention replaced by the plain one.

    kv: the global projections by block
    mentions: (conditioning tensor (1, T, d), what is added to it), found again by its content
    """
    clone = tiny.model.clone()
    for path, pair in kv.items():
        attn = clone.get_model_object(f"diffusion_model.{path}.attn2")

        def forward(x, context=None, attn=attn, pair=pair, path=path, **options):
            q = attn.to_q(x)
            rows = [
                plain_elite(one, text, attn.heads, pair, _locals_of(text, mentions), path)
                for one, text in zip(q, context, strict=True)
            ]
            return attn.to_out(torch.stack(rows))

        clone.add_object_patch(f"diffusion_model.{path}.attn2.forward", forward)
    return clone


def _locals_of(text, mentions):
    """Conditionings of unlike length are repeated until they are alike."""
    text = here(text)
    for cond, locals_ in mentions:
        if len(text) % cond.shape[1] == 0 and torch.equal(text[: cond.shape[1]], cond[0]):
            return locals_
    return []


def rows_of(clip, prompt, word):
    """Where a word's vector stands among all tokens of a prompt."""
    (chunks,) = clip.tokenize(prompt).values()
    tokens = [token for chunk in chunks for token, _ in chunk]
    return [n for n, t in enumerate(tokens) if torch.is_tensor(t) and torch.equal(t, word[0])]
