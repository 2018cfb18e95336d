"""Show where a MODEL looks at each word of a prompt."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor
from torch.nn.functional import interpolate

from ..host.progress import NodeProgress
from ..pictures.grid import labelled_grid
from ..pictures.heat import heat, heat_over, scaled
from ..samplers.word_maps import LAYERS, Look, word_maps
from .sockets import Node

PIXELS = 8  # of a latent's place
COLUMNS = 6  # of the report
ALIASES = ["personalize", "attention", "cross attention", "heat map", "daam", "explain", "words"]


class ShowAttentionMaps(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeAttentionMaps",
            display_name="Show Attention Maps",
            category="personalize/evaluate",
            description="Shows where the MODEL looks at each word of a prompt, for any concept and "
            "for plain words: in a finished picture, or while a new one is drawn.",
            search_aliases=ALIASES,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="With the concept, from Apply Concept."),
                io.Clip.Input("clip", tooltip="With the concept, from Apply Concept."),
                io.String.Input(
                    "prompt", default="a photo of a <my-dog> on the beach", multiline=True,
                    tooltip="The prompt whose words are looked at.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="A finished picture, from KSampler or VAE Encode, is looked at with "
                    "noise. An empty latent: a new picture is drawn and looked at meanwhile.",
                ),
                io.String.Input(
                    "words", default="", optional=True,
                    tooltip="The words to show, with commas: <my-dog>, beach. Words behind one "
                    "another count as one. Empty: every word.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="Shows the maps on the picture. Without it: the "
                    "maps alone.",
                ),
                io.Int.Input(
                    "steps", default=10, min=1, max=1000, optional=True,
                    tooltip="Noise levels at which a finished picture is looked at, or sampling "
                    "steps of a new one.",
                ),
                io.Combo.Input(
                    "layers", options=list(LAYERS), default="all", optional=True,
                    tooltip="Which attention to read, by the size of its maps beside the latent. "
                    "quarter tells what stands where, full the edges.",
                ),
                io.Boolean.Input(
                    "same_scale", default=False, optional=True,
                    tooltip="Off: each map from nothing to its own most. On: all maps alike, which "
                    "shows what gets more attention.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    optional=True, advanced=True,
                    tooltip="Where in the sampling to begin to look: 0 is noise alone.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    optional=True, advanced=True,
                    tooltip="Where in the sampling to cease to look: 1 is the finished picture.",
                ),
                io.Int.Input(
                    "sample_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False, optional=True, advanced=True,
                    tooltip="Of the noise.",
                ),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    optional=True, advanced=True,
                    tooltip="Of a new picture: how firmly it follows the prompt.",
                ),
                io.String.Input(
                    "negative", default="", optional=True, advanced=True,
                    tooltip="Of a new picture: what it should not show.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Mask.Output(display_name="maps"),
                io.Image.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        prompt: str,
        latent: Mapping[str, Any],
        words: str = "",
        vae: io.Vae.Type | None = None,
        steps: int = 10,
        layers: str = "all",
        same_scale: bool = False,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        sample_seed: int = 0,
        cfg: float = 7.0,
        negative: str = "",
    ) -> io.NodeOutput:
        look = Look(
            steps=steps,
            layers=layers,
            start=start_percent,
            end=end_percent,
            seed=sample_seed,
            cfg=cfg,
            negative=negative,
        )
        progress = NodeProgress(steps, cls.hidden.unique_id)
        found = word_maps(
            model, clip, prompt, latent["samples"], words=words, look=look, on_step=progress.update
        )
        maps, images = _pictures(scaled(found.maps, same_scale), found.latent, vae)
        columns = min(len(images), COLUMNS)
        rows = [()] * -(-len(images) // columns)
        names = [word.text for word in found.words]
        report = labelled_grid(images, rows, [""] * columns, names)
        return io.NodeOutput(images, maps, report, ui=ui.PreviewImage(report))


def _pictures(maps: Tensor, latent: Tensor, vae: Any) -> tuple[Tensor, Tensor]:
    """Maps in the size of the picture, and in colours; over the picture where there is a VAE."""
    picture = None if vae is None else vae.decode(latent).float().cpu()[0]
    height, width = maps.shape[1:]
    size = (PIXELS * height, PIXELS * width) if picture is None else tuple(picture.shape[:2])
    maps = interpolate(maps[None], size, mode="bicubic").clamp(0, 1)[0]
    return maps, heat(maps) if picture is None else heat_over(maps, picture)
