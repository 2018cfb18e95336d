"""A small CLIP vision encoder and random ELITE encoders that fit it and the tiny models."""

import json
import tempfile
from pathlib import Path
from unittest import mock

import torch
from personalize.concepts.elite import EliteEncoder, EliteStage, mapper_shapes
from personalize.concepts.vision import VisionShape
from personalize.tests.stock import base_of

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "quick_gelu",
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 56,
    "projection_dim": 16,
}
SHAPE = VisionShape(32, 12, 16)


def random_weights(shapes, seed, gain=1.0):
    """Tensors whose linear layers keep the size of what goes through them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            norm = name.endswith("weight")
            tensors[name] = 0.1 * noise + (1.0 if norm else 0.0)
        else:
            tensors[name] = gain * noise / shape[1:].numel() ** 0.5
    return tensors


def clip_vision(seed=0, **changes):
    """A CLIP_VISION as the host loads it, in small, every parameter initialised."""
    from comfy import memory_management
    from comfy.clip_vision import ClipVisionModel

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"  # ComfyUI before 0.24 takes no dict
        config.write_text(json.dumps(VISION | changes))
        with mock.patch.object(memory_management, "aimdo_enabled", False):  # else no weights yet
            vision = ClipVisionModel(str(config))
    shapes = {name: w.shape for name, w in vision.model.state_dict().items()}
    vision.model.load_state_dict(random_weights(shapes, seed))
    return vision


def weights_of(model):
    """(to_k, to_v) of a MODEL without its patches by the host's path of a block, fp32, CPU."""
    weights = {key: entry[0][0] for key, entry in model.get_key_patches("diffusion_model.").items()}
    ends = ".attn2.to_k.weight", ".attn2.to_v.weight"
    return {
        key.removeprefix("diffusion_model.").removesuffix(ends[0]): tuple(
            weights[key.replace(*pair)].float().cpu().clone() for pair in (("", ""), ends)
        )
        for key in weights
        if key.endswith(ends[0])
    }


def random_stage(projections, text_width, seed, vision_width=32):
    shapes = mapper_shapes(vision_width, text_width)
    mapper = random_weights({k: torch.Size(s) for k, s in shapes.items()}, seed)
    return EliteStage(mapper, projections)


def moved(projections, seed, by=0.5):
    """Projections a part of their own size away from the given ones."""
    generator = torch.Generator().manual_seed(seed)
    return {
        path: tuple(w + by * w.std() * torch.randn(w.shape, generator=generator) for w in pair)
        for path, pair in projections.items()
    }


def random_encoder(tiny, seed=0, same_global=False):
    """An encoder for a tiny model; same_global: its global keys and values are the model's own."""
    own = weights_of(tiny.model)
    width = next(iter(own.values()))[0].shape[1]
    stages = [
        random_stage(own if same_global and n == 0 else moved(own, seed + n), width, seed + 10 + n)
        for n in range(2)
    ]
    return EliteEncoder(f"random-{seed}", base_of(tiny), width, SHAPE, *stages)
