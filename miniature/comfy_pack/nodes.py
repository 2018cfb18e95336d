"""Two nodes: the host's own vision loader knows only the large CLIPs, and subjects to learn."""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io


def load_vision(path: str) -> comfy.clip_vision.ClipVisionModel:
    """A CLIP vision model whose shape stands in the file's metadata, as JSON under `config`."""
    state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    if not metadata or "config" not in metadata:
        raise ValueError(
            f"{path} is no vision file of the miniature: its metadata has no `config`."
        )
    model = vision_model(json.loads(metadata["config"]))
    missing, _ = model.load_sd(state)
    if missing:
        raise ValueError(
            f"{path} is damaged: it lacks {len(missing)} weights, such as {missing[0]}."
        )
    return model


def vision_model(config: dict[str, Any]) -> comfy.clip_vision.ClipVisionModel:
    """A vision model of these settings, without weights.

    The host reads them from a file; before ComfyUI 0.24 it takes no dict.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return comfy.clip_vision.ClipVisionModel(str(file))


class MiniatureLoadVision(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MiniatureLoadVision",
            display_name="Load Miniature Vision",
            category="loaders/miniature",
            description="Loads the vision encoder of the miniature Stable Diffusion.",
            inputs=[
                io.Combo.Input("clip_name", options=folder_paths.get_filename_list("clip_vision"))
            ],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        return io.NodeOutput(
            load_vision(folder_paths.get_full_path_or_raise("clip_vision", clip_name))
        )


def subjects() -> Any:
    """Module `subjects` of the miniature, whose package the host does not know."""
    name, root = "personalize_miniature", Path(__file__).resolve().parents[1]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return importlib.import_module(f"{name}.subjects")


class MiniatureSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MiniatureSubject",
            display_name="Miniature Subject",
            category="loaders/miniature",
            description="Pictures of an object or a face that the miniature Stable Diffusion has "
            "never seen, to learn it from.",
            inputs=[
                io.Combo.Input("kind", options=["thing", "face"]),
                io.Int.Input(
                    "number", default=0, min=0, max=1_000_000,
                    tooltip="The same number is always the same one. Nine things in a row are a "
                    "mug, a car, a house, a duck, a fish, a dog, a robot, a teapot and a boat.",
                ),
                io.Int.Input("pictures", default=4, min=1, max=4),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Mask.Output(display_name="masks"),
                io.String.Output(display_name="class_word"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, kind: str, number: int, pictures: int) -> io.NodeOutput:
        subject = getattr(subjects(), kind)(number)
        views = subject.references.first(pictures)
        return io.NodeOutput(views.pictures, views.masks, subject.class_word)


class MiniaturePack(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [MiniatureLoadVision, MiniatureSubject]
