"""Train ELITE Encoder as the host runs it."""

from typing import Any

import pytest
import torch
from personalize.concepts.errors import PersonalizeError, TrainingError
from personalize.nodes.train_elite import TrainELITE
from personalize.tests.elite_models import clip_vision, random_encoder

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def vision():
    return clip_vision()


def run(tiny, vision, **inputs) -> Any:
    """Execute the node as the host does: every input is a list, under inference mode."""
    values = {"model": tiny.model, "clip": tiny.clip, "vae": tiny.vae, "clip_vision": vision}
    values |= {"stage": "global", "steps": 2, "batch_size": 2, "learning_rate": 1e-3}
    values |= {"train_seed": 0, "resolution": 64, "preview_every": 0, "resume": False, **inputs}
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    lists.setdefault("images", [torch.rand(2, 64, 64, 3)])
    with torch.inference_mode():
        clone = TrainELITE.PREPARE_CLASS_CLONE(None)
        return clone.EXECUTE_NORMALIZED(**lists).result


def test_both_stages_with_a_preview(tiny_sd1, vision):
    masks = [torch.ones(1, 64, 64), torch.ones(64, 64)]
    words, losses = run(tiny_sd1, vision, preview_every=2, preview_prompt="a photo of {}")
    assert words.local_stage is None and len(losses["loss"]) == 2
    images = [torch.rand(1, 64, 64, 3), torch.rand(1, 80, 64, 4)]
    masks[1] = torch.ones(80, 64)
    whole, _ = run(tiny_sd1, vision, stage="local", elite=words, images=images, masks=masks)
    assert whole.local_stage is not None
    assert whole.global_stage.digest == words.global_stage.digest


def test_what_is_missing_is_told(tiny_sd1, vision):
    with pytest.raises(TrainingError, match="give it as elite"):
        run(tiny_sd1, vision, stage="local", masks=[torch.ones(2, 64, 64)])
    encoder = random_encoder(tiny_sd1)
    with pytest.raises(TrainingError, match="there are none. Give masks"):
        run(tiny_sd1, vision, stage="local", elite=encoder)
    with pytest.raises(PersonalizeError, match="got 1 masks and 2 pictures. Connect as many"):
        run(tiny_sd1, vision, masks=[torch.ones(1, 64, 64)])
