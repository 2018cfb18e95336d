"""What each paper says, its authors' program does and the pack does, one number or name each.

The tests hold the third column to the code, and docs/faithfulness.md is written from the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from personalize.nodes.presets import (
    CATVERSION_PRESETS,
    CUSTOM_DIFFUSION_PRESETS,
    DETEX_PRESETS,
    TEXTUAL_INVERSION_PRESETS,
)
from personalize.training.catversion import CatVersionConfig
from personalize.training.cross_init import CrossInitConfig
from personalize.training.custom_diffusion import CustomDiffusionConfig
from personalize.training.detex import DetexConfig
from personalize.training.elite.augmentation import ODDS_OF_STRETCH, STRETCH
from personalize.training.elite.config import EliteConfig
from personalize.training.names import known_names
from personalize.training.prior import SAMPLING
from personalize.training.templates import OBJECT_TEMPLATES, PEOPLE_TEMPLATES
from personalize.training.textual_inversion import TextualInversionConfig

UNREAD = "not read"

SOURCES = {
    "Textual Inversion": "the paper's section 3, *Implementation details* (2 V100, a batch of 4, "
    "base rate 0.005 scaled by the number of GPUs and the batch, effective 0.04, 5,000 steps), and "
    "in the program's `configs/latent-diffusion/txt2img-1p4B-finetune.yaml` (the paper's model), "
    "`configs/stable-diffusion/v1-finetune.yaml`, `main.py` (`scale_lr` is on) and "
    "`ldm/data/personalized.py`",
    "Cross Initialization": "the program's `README.md` (0.000625 x 8 with `scale_lr`), "
    "`train_cross_init.py` and `textual_inversion_dataset.py`",
    "CatVersion": "the program's `configs/stable-diffusion/v1-finetune.yaml`, `README.md` (one "
    "GPU) and `run.sh`",
    "Custom Diffusion": "the paper's training details as notes quote them (250 steps, 500 for two "
    "subjects, a batch of 8, 8e-5, sizes of 0.4 to 1.4), the program's `README.md` (for diffusers: "
    "250 and 500 steps) and `configs/custom-diffusion/finetune_addtoken.yaml`, "
    "`finetune_face.yaml` and `finetune_joint.yaml`, `scripts/finetune_gen.sh` and "
    "`finetune_joint.sh` (2 GPUs), `train.py`, `src/finetune_data.py` and `src/model.py`",
    "DETEX": "the paper and its supplement. An author said in February 2024 that the program is "
    "out (github.com/PrototypeNx/DETEX, issue 1); the copy that could be read was older and held a "
    "README alone, so no number here is from the program",
    "ELITE": "the program's `train_global.sh`, `train_local.sh` (4 GPUs, `scale_lr`) and "
    "`datasets.py`",
}
"""Where the numbers of programs were read."""


@dataclass(frozen=True)
class Constant:
    """paper, program: as they say, "-" where they are silent

    ours: the value; read: the same from the code; why: the reason where they differ
    """

    method: str
    what: str
    paper: str
    program: str
    ours: Any
    read: Callable[[], Any]
    why: str = ""


_TI = TextualInversionConfig(placeholder="<x>", init_word="dog")
_CI = CrossInitConfig(placeholder="<x>")
_CV = CatVersionConfig(placeholder="<x>", class_word="dog")
_CD = CustomDiffusionConfig(placeholder="<x>", class_word="dog")
_DETEX = DetexConfig(placeholder="<x>", class_word="dog")
_GLOBAL, _LOCAL = EliteConfig(stage="global"), EliteConfig(stage="local")

TABLE = (
    Constant("Textual Inversion", "base rate", "0.005", "0.005", 0.005, lambda: _TI.learning_rate),
    Constant("Textual Inversion", "pictures a step", "4 on each of 2 GPUs, effective rate 0.04",
             "4 a GPU; 2 for Stable Diffusion, effective rate 0.01 on one GPU", 1,
             lambda: _TI.batch_size,
             "programs for Stable Diffusion train with 1 at 0.005; the preset paper has 8 at 0.04"),
    Constant("Textual Inversion", "effective rate of the preset paper", "0.04",
             "0.005 x 4 x number of GPUs", 0.04,
             lambda: TEXTUAL_INVERSION_PRESETS["paper"]["learning_rate"],
             "the paper's 2 GPUs"),
    Constant("Textual Inversion", "steps", "5000", "6100 at most", 5000, lambda: _TI.steps,
             "the paper"),
    Constant("Textual Inversion", "templates", "27 neutral ones",
             "81: photo, illustration, depiction", 27, lambda: len(OBJECT_TEMPLATES), "the paper"),
    Constant("Cross Initialization", "rate", "0.005; fast 0.08", "the same", 0.005,
             lambda: _CI.learning_rate),
    Constant("Cross Initialization", "pictures a step", "8", "8", 8, lambda: _CI.batch_size),
    Constant("Cross Initialization", "steps", "320; fast 25", "the same", 320, lambda: _CI.steps),
    Constant("Cross Initialization", "weight of the regulariser", "1e-5", "1e-5", 1e-5,
             lambda: _CI.reg_weight),
    Constant("Cross Initialization", "regulariser", "squared distance", "mean distance", "distance",
             lambda: _CI.regulariser.value, "the program; the preset paper has the square"),
    Constant("Cross Initialization", "words", "2", "2", 2, lambda: _CI.words),
    Constant("Cross Initialization", "names", "691 well-known people, those of Celeb Basis",
             "691", 600,
             lambda: min(len(known_names()), 600),
             "a list of our own, of 600 names at least whose parts are one token each"),
    Constant("Cross Initialization", "templates for people", "-", "81", 81,
             lambda: len(PEOPLE_TEMPLATES)),
    Constant("CatVersion", "base rate", "0.005", "0.005", 0.005, lambda: _CV.learning_rate),
    Constant("CatVersion", "pictures a step", "1", "2, effective rate 0.01", 1,
             lambda: _CV.batch_size, "the paper; the preset program has 2 at 0.01"),
    Constant("CatVersion", "effective rate of the preset program", "-", "0.01", 0.01,
             lambda: CATVERSION_PRESETS["program"]["learning_rate"]),
    Constant("CatVersion", "residuals a layer", "1", "1", 1, lambda: _CV.residual_tokens),
    Constant("CatVersion", "last layers", "3", "3", 3, lambda: _CV.layers),
    Constant("CatVersion", "bias of the residuals' logits", "0", "1", 1.0, lambda: _CV.logit_bias,
             "the program, by whose adapters it is seen; the preset paper has 0"),
    Constant("CatVersion", "steps", "about 1000", "1001", 1000, lambda: _CV.steps,
             "the paper"),
    Constant("Custom Diffusion", "effective rate", "8e-5", "8e-5 (1e-5 x 4 a GPU x 2 GPUs)", 8e-5,
             lambda: _CD.learning_rate),
    Constant("Custom Diffusion", "pictures of the subject a step", "a batch of 8",
             "4, and 4 of the class", 4, lambda: _CD.batch_size),
    Constant("Custom Diffusion", "steps", "250", "300; 250 with diffusers", 300, lambda: _CD.steps,
             "the program"),
    Constant("Custom Diffusion", "steps of the preset paper", "250", "-", 250,
             lambda: CUSTOM_DIFFUSION_PRESETS["paper"]["steps"]),
    Constant("Custom Diffusion", "faces: effective rate", "-", "4e-5 (base 5e-6), 750 steps", 4e-5,
             lambda: CUSTOM_DIFFUSION_PRESETS["program, faces"]["learning_rate"]),
    Constant("Custom Diffusion", "two subjects: pictures of each a step", "-",
             "2, and 2 of its class", 2, lambda: _CD.batch_size // 2),
    Constant("Custom Diffusion", "two subjects: steps", "500", "550; 500 with diffusers", 550,
             lambda: CUSTOM_DIFFUSION_PRESETS["program, two subjects"]["steps"], "the program"),
    Constant("Custom Diffusion", "pictures of the class", "200 real ones", "200, real or drawn",
             200, lambda: _CD.prior_count,
             "drawn by the model, as nothing is downloaded; `prior_images` takes real ones, which "
             "the authors found to be the better ones for the class"),
    Constant("Custom Diffusion", "steps of DDIM for them", "-", "50, eta 1, guidance 6", 50,
             lambda: SAMPLING["steps"]),
    Constant("Custom Diffusion", "eta of DDIM for them", "-", "1", 1.0, lambda: _CD.prior_eta),
    Constant("Custom Diffusion", "pictures drawn smaller and larger",
             "yes, 0.4 to 1.4 times", "yes, 1/3 to 1.4 times", True, lambda: _CD.zoom,
             "the program's sizes; 64 variants are encoded once, where the program draws anew for "
             "each step"),
    Constant("Custom Diffusion", "the first token trains keys and values", "-", "no", False,
             lambda: _CD.first_token),
    Constant("DETEX", "rate", "1e-5", UNREAD, 4e-5, lambda: _DETEX.learning_rate,
             "read as a base rate for each of 4 pictures, and measured: docs/detex.md"),
    Constant("DETEX", "rate of the preset paper", "1e-5", UNREAD, 1e-5,
             lambda: DETEX_PRESETS["paper"]["learning_rate"]),
    Constant("DETEX", "pictures a step", "4", UNREAD, 4, lambda: _DETEX.batch_size),
    Constant("DETEX", "steps", "600", UNREAD, 600, lambda: _DETEX.steps),
    Constant("DETEX", "weight of the attention loss", "0.01", UNREAD, 0.01,
             lambda: _DETEX.attention_weight),
    Constant("DETEX", "norm of the attention loss", "not said which", UNREAD, "by maximum",
             lambda: _DETEX.attention_norm.value, "measured: docs/detex.md"),
    Constant("DETEX", "background removed, probability", "0.5", UNREAD, 0.5,
             lambda: _DETEX.mask_probability),
    Constant("DETEX", "pictures of the class", "200", UNREAD, 200,
             lambda: _DETEX.prior_count),
    Constant("ELITE", "global: pictures a step", "16", "64 (4 GPUs x 4 x 4)", 64,
             lambda: _GLOBAL.batch_size, "the program; the preset paper, global has 16"),
    Constant("ELITE", "global: effective rate", "1e-6 a picture", "6.4e-5", 6.4e-5,
             lambda: _GLOBAL.learning_rate),
    Constant("ELITE", "local: pictures a step", "8", "32 (4 GPUs x 2 x 4)", 32,
             lambda: _LOCAL.batch_size, "the program; the preset paper, local has 8"),
    Constant("ELITE", "local: effective rate", "1e-5 a picture", "3.2e-4", 3.2e-4,
             lambda: _LOCAL.learning_rate),
    Constant("ELITE", "weight of mean abs(v)", "0.01", "0.01", 0.01, lambda: _GLOBAL.words_weight),
    Constant("ELITE", "weight of mean abs(V_l)", "0.0001", "0.0001", 0.0001,
             lambda: _LOCAL.values_weight),
    Constant("ELITE", "longest gradient", "-", "1", 1.0, lambda: _GLOBAL.clip_norm),
    Constant("ELITE", "local loss over the channels", "mean", "sum", True,
             lambda: _LOCAL.sum_channels, "the program, which divides by a one-channel mask"),
    Constant("ELITE", "affine part of the elastic transform, pixels of 224", "-", "50", 50,
             lambda: round(STRETCH * 224)),
    Constant("ELITE", "its probability", "-", "0.3", 0.3, lambda: ODDS_OF_STRETCH),
)  # fmt: skip


def page() -> str:
    """docs/faithfulness.md."""
    lines = [
        "# What papers say, programs do and the pack does",
        "",
        "Written from `tests/papers/constants.py` by `pytest tests/papers --write-pages`;",
        'a test holds the column "ours" to the code. "-": nothing is said.',
    ]
    for method in dict.fromkeys(constant.method for constant in TABLE):
        lines += ["", f"## {method}", "", f"Read in {SOURCES[method]}.", ""]
        lines += ["| what | paper | program | ours | why they differ |"]
        lines += ["| -- | -- | -- | -- | -- |"]
        for one in TABLE:
            if one.method == method:
                cells = (one.what, one.paper, one.program, shown(one.ours), one.why)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
