"""Train an ELITE encoder inside the host, from a list of pictures and masks."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..host.folders import states_folder
from ..host.sampling import text_to_image
from ..pictures.masks import MaskMarks
from ..samplers.apply import apply_concept
from ..training.elite.config import EliteConfig, TrainingStage
from ..training.elite.encoding import encode_elite
from ..training.elite.train import EliteModels, GivenSubjects, train_elite
from ..training.loop import StepReport
from .elite import ALIASES, EliteSocket
from .inputs import (
    HIDDEN_OF_TRAINERS,
    common_options,
    config_of,
    default_of,
    keep_activations_option,
    lines_of,
    mask_marks_input,
    mask_marks_of,
    micro_batch_option,
    preset_option,
    schedule_inputs,
    seed_input,
    setting,
    with_preset,
)
from .monitor import plottable, times_continued, watched
from .presets import ELITE_PRESETS
from .sockets import Node
from .train_node import first_values

PREVIEWED = "<subject>"


class TrainELITE(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        steps = schedule_inputs(EliteConfig)[0]
        return io.Schema(
            node_id="PersonalizeTrainELITE",
            display_name="Train ELITE Encoder",
            category="personalize/train",
            description="Trains an encoder that turns one picture into a concept, from many "
            "pictures of many subjects: first its global, then its local stage. Days of work for a "
            "general encoder; a narrow world takes less. For several GPUs there is a command line.",
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to train with. It is not changed."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint. Not changed."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The CLIP vision encoder that the new one will read, such as CLIP "
                    "ViT-L/14. It is not changed.",
                ),
                io.Image.Input(
                    "images",
                    tooltip="Pictures, each of one subject that fills it, as a batch or a list. "
                    "Each is resized as a whole to a square.",
                ),
                io.Combo.Input(
                    "stage", options=[TrainingStage.GLOBAL.value, TrainingStage.LOCAL.value],
                    default=TrainingStage.GLOBAL.value,
                    tooltip="global: the words, with the model's keys and values. local: the "
                    "details, on top of a global stage given as elite.",
                ),
                steps,
                setting(
                    EliteConfig, "batch_size", "Pictures a step. 0: the published program's, 64 in "
                    "the global and 32 in the local stage; the paper says 16 and 8.",
                    min=0, max=1024,
                ),
                io.Float.Input(
                    "learning_rate", default=default_of(EliteConfig, "learning_rate"),
                    min=0.0, max=10.0, step=1e-5, round=1e-7,
                    tooltip="0: the published one, for each picture of a batch 0.000001 in the "
                    "global and 0.00001 in the local stage: 0.000064 for 64, 0.00032 for 32.",
                ),
                seed_input(),
                io.Mask.Input(
                    "masks", optional=True,
                    tooltip="A mask for each picture, white on the subject. The local stage needs "
                    "them, the global one does not.",
                ),
                EliteSocket.Input(
                    "elite", optional=True,
                    tooltip="An encoder to go on from. The local stage needs one, and goes on with "
                    "its local part if it has one.",
                ),
                *common_options(EliteConfig, preview_every=250),
                io.Int.Input(
                    "accumulation", default=default_of(EliteConfig, "accumulation"),
                    min=1, max=1024, optional=True, advanced=True,
                    tooltip="Parts that a batch is split into, one after another, to save memory.",
                ),
                io.Float.Input(
                    "average", default=default_of(EliteConfig, "average"),
                    min=0.0, max=0.99999, step=0.001, round=0.00001, optional=True, advanced=True,
                    tooltip="Decay of a running average over the steps, which is then the result. "
                    "0: none; 0.999 is usual.",
                ),
                mask_marks_input(),
                micro_batch_option(EliteConfig),
                preset_option(ELITE_PRESETS),
                keep_activations_option(EliteConfig),
            ],
            outputs=[
                EliteSocket.Output(display_name="elite"),
                io.LossMap.Output(display_name="losses"),
            ],
            hidden=HIDDEN_OF_TRAINERS,
        )  # fmt: skip

    @classmethod
    def execute(cls, **lists: list[Any]) -> io.NodeOutput:
        with watched(cls.hidden, first_values(lists)) as monitor:
            values = first_values(cls.checked(lists))
            models = EliteModels(*(values[k] for k in ("model", "clip", "vae", "clip_vision")))
            config = config_of(EliteConfig, with_preset(ELITE_PRESETS, values))
            masks = values.get("masks", ())
            subjects = GivenSubjects(values["images"], masks, mask_marks_of(values), monitor.warn)

            def draw(report: StepReport, prompt: str) -> Tensor:
                first = subjects.first
                concept = encode_elite(
                    report.learner.to_encoder(report.read),
                    models.clip_vision,
                    first.picture[None],
                    None if first.mask is None else first.mask[None],
                    placeholder=PREVIEWED,
                    marks=MaskMarks.SUBJECT,
                )
                patched = apply_concept(models.model, models.clip, concept)
                side = config.resolution or report.backbone.resolution
                return text_to_image(*patched, models.vae, prompt, side)

            lines = lines_of(values.get("preview_prompt", ""))
            prompts = [line.replace("{}", PREVIEWED) for line in lines]
            config = monitor.begin(config, prompts, draw)
            trained = train_elite(
                config,
                models,
                subjects,
                start=values.get("elite"),
                on_step=monitor,
                states=states_folder(),
                resume=values.get("resume", True),
            )
            monitor.finish(config.steps, trained.losses)
        losses = plottable(trained.losses["loss"])
        return io.NodeOutput(trained.encoder, losses, ui=monitor.shown)

    @classmethod
    def fingerprint_inputs(cls, **lists: Any) -> int:
        return times_continued(cls.hidden, lists)
