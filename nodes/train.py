"""Train nodes: the inputs of each method that learns a concept from a few pictures."""

from collections.abc import Mapping
from typing import Any, ClassVar

from comfy_api.latest import io

from ..concepts.placeholders import attribute_placeholder
from ..training.catversion import CatVersion
from ..training.cross_init import CrossInit
from ..training.custom_diffusion import CustomDiffusion
from ..training.detex import Detex
from ..training.textual_inversion import TextualInversion
from .inputs import (
    CUSTOM,
    Presets,
    captions_option,
    class_word_input,
    common_options,
    init_word_option,
    mask_marks_input,
    micro_batch_option,
    model_inputs,
    placeholder_input,
    preset_option,
    prior_options,
    rank_option,
    schedule_inputs,
    second_options,
    seed_input,
    zoom_option,
)
from .presets import (
    CATVERSION_PRESETS,
    CROSS_INIT_PRESETS,
    CUSTOM_DIFFUSION_PRESETS,
    DETEX_PRESETS,
    TEXTUAL_INVERSION_PRESETS,
)
from .train_node import TrainNode


class TrainTextualInversion(TrainNode):
    learner = TextualInversion
    presets: ClassVar[Presets] = TEXTUAL_INVERSION_PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            *model_inputs(),
            placeholder_input(),
            io.String.Input(
                "init_word", default="dog",
                tooltip="What the subject is, in a word: the new words start from its embedding, "
                "and it stands in for the concept at strength 0.",
            ),
            cls.setting(
                "vectors", "Number of new words. More hold more detail and are harder to edit.",
                min=1, max=74,
            ),
            *schedule_inputs(
                cls.learner.config_type,
                "The paper: 0.005 for each of 8 pictures, 0.04; with one picture a step 0.005.",
            ),
            seed_input(),
            *common_options(cls.learner.config_type, preview_every=250),
            micro_batch_option(cls.learner.config_type),
            captions_option(),
            # of workflows from before it was there, the other inputs count
            preset_option(cls.presets, default=CUSTOM),
        ]  # fmt: skip
        return cls.train_schema(
            "PersonalizeTrainTextualInversion",
            "Learns a subject as new words of the text encoder (Gal et al. 2022), the baseline of "
            "the other methods.",
            inputs,
        )


class TrainCatVersion(TrainNode):
    learner = CatVersion
    presets: ClassVar[Presets] = CATVERSION_PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            *model_inputs(),
            placeholder_input(),
            class_word_input(
                "What the subject is, such as dog. Prompts are encoded with this word in the "
                "placeholder's place, and the residuals beside it."
            ),
            cls.setting(
                "residual_tokens", "Residual keys and values a layer, 1 in the paper. More learn "
                "sooner and hold more detail: 4 to 8 where 1 stays unlike the subject.",
                min=1, max=75, advanced=True,
            ),
            cls.setting(
                "layers", "How many text layers are changed, counted back from the last one that "
                "reaches the model. The first layers change what the whole prompt means.",
                min=1, max=24, advanced=True,
            ),
            *schedule_inputs(
                cls.learner.config_type,
                "The paper: 0.005 with one picture a step; the program: 0.005 for each of 2, 0.01.",
            ),
            seed_input(),
            cls.setting(
                "logit_bias", "Added to the attention logits of the residuals: 1 in the published "
                "code, 0 in the paper.",
                min=-10.0, max=10.0, step=0.1, round=0.001, optional=True, advanced=True,
            ),
            *common_options(cls.learner.config_type, preview_every=100),
            micro_batch_option(cls.learner.config_type),
            cls.setting(
                "last_layer", "The last text layer that is changed, counted from 1, to compare "
                "layers. 0: the last one that reaches the model.",
                min=0, max=24, optional=True, advanced=True,
            ),
            preset_option(cls.presets),
        ]  # fmt: skip
        return cls.train_schema(
            "PersonalizeTrainCatVersion",
            "Learns a subject as residual keys and values in the last layers of the text encoder "
            "(Zhao et al. 2023). Sampling costs nothing more.",
            inputs,
        )


class TrainCustomDiffusion(TrainNode):
    learner = CustomDiffusion
    presets: ClassVar[Presets] = CUSTOM_DIFFUSION_PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            *model_inputs(),
            placeholder_input(),
            class_word_input(),
            *schedule_inputs(
                cls.learner.config_type,
                "The program: 0.00001 for each of 4 pictures and 4 of the class, 0.00008.",
            ),
            seed_input(),
            *prior_options(cls.learner.config_type),
            init_word_option(cls.learner.config_type),
            *common_options(cls.learner.config_type, preview_every=50),
            rank_option(cls.learner.config_type),
            micro_batch_option(cls.learner.config_type),
            captions_option(),
            zoom_option(cls.learner.config_type),
            preset_option(cls.presets),
        ]
        return cls.train_schema(
            "PersonalizeTrainCustomDiffusion",
            "Learns a subject as a word and the keys and values of the model's cross attention "
            "(Kumari et al. 2023), the baseline of DETEX, or two subjects at once. Pictures of the "
            "class keep its meaning.",
            inputs,
            second_options(cls.learner.config_type),
        )

    @classmethod
    def preview_prompts(cls, values: Mapping[str, Any]) -> list[str]:
        """Of two subjects also both in one picture."""
        shown = super().preview_prompts(values)
        if not values.get("second_images"):
            return shown
        second = attribute_placeholder(values["placeholder"].strip(), values["second_name"])
        return [*shown, f"a photo of {{}} and {second}"]


class TrainDETEX(TrainNode):
    learner = Detex
    presets: ClassVar[Presets] = DETEX_PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        model, clip, vae, images = model_inputs()
        inputs = [
            model, clip, vae,
            io.ClipVision.Input(
                "clip_vision", tooltip="A CLIP vision encoder, such as CLIP ViT-L/14, which sees "
                "each picture's pose and background. It is not changed.",
            ),
            images,
            io.Mask.Input(
                "masks", tooltip="A mask for each picture in the same order, white on the subject, "
                "such as Segment Subject makes.",
            ),
            placeholder_input(),
            class_word_input(),
            cls.setting(
                "pose_word",
                "pose for what moves; view for rigid things, whose texture a pose word would take.",
            ),
            *schedule_inputs(
                cls.learner.config_type,
                "The paper: 0.00001, read here as that of each of 4 pictures, 0.00004.",
            ),
            seed_input(),
            *prior_options(cls.learner.config_type),
            cls.setting(
                "attention_weight", "How firmly a pose word is held to the subject and a "
                "background word to what is around it.",
                min=0.0, max=10.0, step=0.001, round=0.0001, optional=True, advanced=True,
            ),
            cls.setting(
                "mask_probability",
                "How often the background is removed from a picture and its prompt.",
                min=0.0, max=1.0, step=0.05, round=0.001, optional=True, advanced=True,
            ),
            init_word_option(cls.learner.config_type),
            *common_options(cls.learner.config_type, preview_every=100),
            mask_marks_input(),
            rank_option(cls.learner.config_type),
            micro_batch_option(cls.learner.config_type),
            cls.setting(
                "attention_norm", "How far attention maps are from the masks. norm: as the paper "
                "prints it. by maximum: of maps divided by their maximum. mean square: of maps as "
                "they are.",
                optional=True, advanced=True,
            ),
            preset_option(cls.presets),
        ]  # fmt: skip
        return cls.train_schema(
            "PersonalizeTrainDETEX",
            "Learns a subject apart from its poses and backgrounds (Cai et al. 2024): "
            "<my-dog> is the subject alone, <my-dog:pose2> and <my-dog:background1> are the second "
            "picture's pose and the first one's background.",
            inputs,
        )

    @classmethod
    def preview_prompts(cls, values: Mapping[str, Any]) -> list[str]:
        name = values["placeholder"].strip()
        pose, background = (attribute_placeholder(name, a) for a in ("pose1", "background1"))
        attributes = f" with {pose} {values['pose_word']} in {background} background"
        return [*super().preview_prompts(values), f"photo of a {{}}{attributes}"]


class TrainCrossInit(TrainNode):
    learner = CrossInit
    presets: ClassVar[Presets] = CROSS_INIT_PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            *model_inputs(),
            placeholder_input("<me>"),
            cls.setting(
                "class_word", "What the subject is: person for a face, else a word such as dog. It "
                "stands in for the concept at strength 0.",
            ),
            cls.setting(
                "init_from", "Start from the text encoder's output for the mean of well-known "
                "names (faces) or for the class word (all else).",
            ),
            *schedule_inputs(
                cls.learner.config_type,
                "The paper: 0.005 with 8 pictures a step, whatever their number.",
            ),
            cls.setting(
                "reg_weight", "How firmly the words are held near their start.",
                min=0.0, max=1.0, step=1e-6, round=1e-8, advanced=True,
            ),
            seed_input(),
            preset_option(
                cls.presets, "quality",
                "Sets other inputs. quality, fast: steps and rate of the paper's two settings. "
                "sdxl: for Stable Diffusion XL. paper: exactly the paper's setting, its "
                "regulariser too. custom: as they are set.",
            ),
            cls.setting(
                "regulariser",
                "distance: as in the published code. squared: as in the paper.",
                optional=True, advanced=True,
            ),
            *common_options(
                cls.learner.config_type, preview_every=50, preview_prompt="a photo of {} {class}"
            ),
            micro_batch_option(cls.learner.config_type),
            captions_option(),
            cls.setting(
                "initial_words", "What the words start from with init_from class word, such as "
                "small brown dog. Empty: the class word.", optional=True, advanced=True,
            ),
            cls.setting(
                "words", "How many words are learned at least, 2 in the paper.",
                min=1, max=74, optional=True, advanced=True,
            ),
            cls.setting(
                "illustrations", "Where class_word is person, a third of the prompts call the "
                "picture an illustration or a depiction, so that styles can be asked for later.",
                optional=True, advanced=True,
            ),
        ]  # fmt: skip
        return cls.train_schema(
            "PersonalizeTrainCrossInit",
            "Learns a face or another subject as two words that start from the text encoder's own "
            "output (Pang et al. 2024): few steps, easy to edit.",
            inputs,
        )
