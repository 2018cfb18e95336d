"""Settings of papers and of their authors' programs, by the names of a node's inputs, and for SDXL.

Each is whole: it sets all inputs that the paper or the program says something about.
"""

from ..concepts.bases import BASES
from ..training.catversion import CatVersionConfig
from ..training.cross_init import PRESETS, Regulariser
from ..training.custom_diffusion import BASE_RATE, FACE_RATE, CustomDiffusionConfig
from ..training.detex import PRINTED_RATE, AttentionNorm, DetexConfig
from ..training.elite.config import PAPER as ELITE_PAPER
from ..training.elite.config import PROGRAM as ELITE_PROGRAM
from ..training.elite.config import Published, TrainingStage
from ..training.textual_inversion import PRESETS as WORD_PRESETS
from .inputs import Presets

_PAPER, _PROGRAM = "paper", "program"

TEXTUAL_INVERSION_PRESETS: Presets = {
    **{name: preset.values for name, preset in WORD_PRESETS.items()},
    _PAPER: {"vectors": 1, "steps": 5000, "batch_size": 8, "learning_rate": 0.04},
}
"""paper: 0.005 x 4 pictures x 2 V100, for another latent diffusion than Stable Diffusion."""

CATVERSION_PRESETS: Presets = {
    _PAPER: {
        "residual_tokens": 1,
        "layers": 3,
        "last_layer": 0,
        "logit_bias": 0.0,
        "steps": 1000,
        "batch_size": 1,
        "learning_rate": 0.005,
    },
    _PROGRAM: {
        "residual_tokens": 1,
        "layers": 3,
        "last_layer": 0,
        "logit_bias": CatVersionConfig.logit_bias,
        "steps": 1000,
        "batch_size": 2,
        "learning_rate": 0.01,
    },
}

_CLASS = {"prior_count": 200, "prior_weight": 1.0}
_CUSTOM = {**_CLASS, "batch_size": 4, "zoom": True, "templates": CustomDiffusionConfig.templates}

_SDXL = {"prior_count": 50, "prior_weight": 1.0, "rank": BASES["sdxl"].rank}
"""Of changed weights on Stable Diffusion XL: little memory, and fewer pictures of the class, since
the model takes long for each."""

CUSTOM_DIFFUSION_PRESETS: Presets = {
    "sdxl": _SDXL,
    _PAPER: {**_CUSTOM, "steps": 250, "learning_rate": 8 * BASE_RATE, "rank": 0},
    _PROGRAM: {**_CUSTOM, "steps": 300, "learning_rate": 8 * BASE_RATE, "rank": 0},
    "program, two subjects": {**_CUSTOM, "steps": 550, "learning_rate": 8 * BASE_RATE, "rank": 0},
    "program, faces": {**_CUSTOM, "steps": 750, "learning_rate": 8 * FACE_RATE, "rank": 0},
}

DETEX_PRESETS: Presets = {
    "sdxl": _SDXL,
    _PAPER: {
        **_CLASS,
        "steps": 600,
        "batch_size": 4,
        "learning_rate": PRINTED_RATE,
        "attention_weight": DetexConfig.attention_weight,
        "attention_norm": AttentionNorm.NORM.value,
        "mask_probability": DetexConfig.mask_probability,
        "rank": 0,
    },
}

CROSS_INIT_PRESETS: Presets = {
    **{name: preset.values for name, preset in PRESETS.items()},
    _PAPER: {
        **PRESETS["quality"].values,
        "batch_size": 8,
        "reg_weight": 1e-5,
        "regulariser": Regulariser.SQUARED.value,
        "words": 2,
    },
}


def _elite(stage: TrainingStage, published: Published) -> dict[str, object]:
    return {
        "stage": stage.value,
        "batch_size": published.batch_size,
        "learning_rate": published.effective,
    }


ELITE_PRESETS: Presets = {
    f"{name}, {stage.value}": _elite(stage, published[stage])
    for name, published in ((_PAPER, ELITE_PAPER), (_PROGRAM, ELITE_PROGRAM))
    for stage in (TrainingStage.GLOBAL, TrainingStage.LOCAL)
}
