"""Train an ELITE encoder on a folder of pictures, on one or many processors.

    accelerate launch cli/run.py train_elite --checkpoint FILE --clip-vision FILE \\
        --data FOLDER --output FOLDER [--stage local --elite FILE]

Without several processes plain `python cli/run.py train_elite ...` does the same. The help of
every option: --help. docs/train-elite.md tells how to train at real scale.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .comfyui import ROOT, OnCpu, checkout_version, find_host, prepare_host, wants_cpu

if TYPE_CHECKING:
    from ..concepts.elite import EliteEncoder
    from ..training.descent import Processes
    from ..training.elite.config import EliteConfig
    from ..training.elite.examples import Subjects
    from ..training.elite.train import EliteModels

PROMPTS = ["a photo of a {}", "a {} on the beach"]
ENCODER = "encoder.safetensors"
STAGES = ("align", "global", "local")
MASK_MARKS = ("auto", "subject", "background")


def parser() -> argparse.ArgumentParser:
    """Options; their defaults are the published scripts'."""
    result = argparse.ArgumentParser(
        prog="train_elite", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = result.add_argument
    files = result.add_argument_group("models and data")
    for name, what in (("checkpoint", "a checkpoint of SD1.x or SD2.x"),
                       ("clip-vision", "the CLIP vision encoder to read"),
                       ("output", "folder for the encoder, states, logs and samples")):  # fmt: skip
        files.add_argument(f"--{name}", type=Path, required=True, help=what)
    data = files.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, help="folder of name.jpg with name_mask.png beside")
    data.add_argument("--open-images", type=Path, help="folder of OpenImages")
    files.add_argument("--mask-marks", choices=MASK_MARKS, default="auto",
                       help="what is white in masks, of --sample-data too; auto: the subject, "
                       "unless white is along the border and not in the middle")  # fmt: skip
    files.add_argument("--subset", choices=["train", "validation", "test"], default="test")
    files.add_argument("--elite", type=Path, help="encoder to go on from; local needs one")
    files.add_argument("--comfyui", type=Path, help="folder of ComfyUI; or set COMFYUI_PATH")
    packs = {"type": Path, "action": "append", "default": []}
    files.add_argument("--host-pack", **packs, help="custom nodes that register shapes of models")
    add(
        "--stage",
        choices=STAGES,
        default="global",
        help="align: a start for the words by CLIP, not in the paper",
    )
    add("--steps", type=int, default=60000)
    add(
        "--batch-size",
        type=int,
        default=0,
        help="pictures a step, of all processes together; 0: the published script's for the stage",
    )
    add("--accumulation", type=int, default=1, help="parts of a process's batch, one after another")
    add(
        "--learning-rate",
        type=float,
        default=0.0,
        help="0: the published one, which grows with the batch",
    )
    add("--warmup", type=int, default=0, help="steps in which the learning rate rises")
    add("--cosine", action="store_true", help="let it fall to 0 towards the last step")
    add("--weight-decay", type=float, default=0.01)
    add("--words-weight", type=float, default=0.01, help="of mean |v|, global stage")
    add("--values-weight", type=float, default=0.0001, help="of mean |V_l|, local stage")
    add("--start-scale", type=float, default=1.0, help="of a new mapper's last layers")
    add("--projections-share", type=float, default=1.0, help="of the rate, for keys and values")
    add("--average", type=float, default=0.0, help="decay of a running average, such as 0.999")
    add("--seed", type=int, default=0)
    add("--resolution", type=int, default=512)
    add("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    add("--vae-precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    add("--micro-batch", type=int, default=0, help="pictures at once, 0 for what memory allows")
    add("--gradient-checkpointing", action="store_true")
    add("--keep-activations", action="store_true", help="on SDXL: no checkpointing by itself")
    add("--no-zoom", action="store_true", help="the local stage draws whole pictures only")
    add("--no-stretch", action="store_true", help="never distort what the encoder sees")
    add("--no-flip", action="store_true", help="never mirror what the encoder sees")
    add("--templates", type=Path, help="file of prompts, one a line, with {} for the subject")
    add("--threads", type=int, default=4, help="that read and augment pictures ahead")
    add("--save-every", type=int, default=1000)
    add("--fresh", action="store_true", help="start at the first step even if there is a state")
    add("--log-every", type=int, default=50)
    add("--sample-every", type=int, default=1000, help="steps between sample sheets, 0: none")
    add(
        "--sample-data",
        type=Path,
        help="folder like --data for the sheets; else the first pictures",
    )
    add("--sample-count", type=int, default=4, help="subjects of a sheet")
    add("--sample-prompt", action="append", help=f"of the sheets; default: {PROMPTS}")
    add("--sample-steps", type=int, default=20)
    add("--half", action="store_true", help="write the encoder as fp16")
    add("--licence", help="of the encoder, for its file's metadata, such as CC0-1.0")
    add("--cpu", action=OnCpu)
    return result


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    host = comfyui_folder(args.comfyui)
    if host is None:
        where = "" if args.comfyui is None else f" in {args.comfyui}"
        print(f"There is no ComfyUI{where}. Name its folder with --comfyui.", file=sys.stderr)
        return 2
    processes = start_processes(wants_cpu())
    if processes is None:
        print("Several processes need the package accelerate: pip install accelerate",
              file=sys.stderr)  # fmt: skip
        return 2

    options = {} if args.vae_precision == "auto" else {f"{args.vae_precision}_vae": True}
    prepare_host(None, None, host, options)
    from ..concepts.errors import PersonalizeError

    try:
        run(args, processes)
    except (PersonalizeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped: the same command goes on with the next step.", file=sys.stderr)
        return 130
    finally:
        if isinstance(processes, Accelerated):
            processes.end()
    return 0


def comfyui_folder(named: Path | None) -> Path | None:
    """The folder named, the ComfyUI that this pack lies in, or the checkout of the tests."""
    if named is not None:
        return named.resolve() if checkout_version(named) else None
    around = ROOT.parent.parent
    return around if checkout_version(around) else find_host()


class Accelerated:
    """The processes that accelerate or torchrun launched."""

    def __init__(self, cpu: bool) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=cpu)
        self.index, self.count = self._state.process_index, self._state.num_processes

    def mean(self, tensors: Any) -> Any:
        """One exchange for each type of tensors: they are laid end to end."""
        import torch
        from accelerate.utils import reduce

        result: list[Any] = [None] * len(tensors)
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # in the same order everywhere
            places = [n for n, tensor in enumerate(tensors) if tensor.dtype == dtype]
            row = torch.cat([tensors[n].flatten().to(self._state.device) for n in places])
            mean: Any = reduce(row, "mean")
            parts = mean.split([tensors[n].numel() for n in places])
            for n, part in zip(places, parts, strict=True):
                result[n] = part.view_as(tensors[n]).to(tensors[n].device)
        return result

    def from_first(self, value: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def end(self) -> None:
        self._state.destroy_process_group()


def start_processes(cpu: bool) -> Processes | None:
    """Join the others, if there are any; None when the package for that is missing."""
    from ..training.descent import Alone

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone()
    try:
        return Accelerated(cpu)
    except ImportError:
        return None


def run(args: argparse.Namespace, processes: Processes) -> None:
    """Load everything, train, and write the encoder."""
    from ..concepts.elite_files import load_encoder_files, save_encoder
    from ..host.models import check_projection
    from ..training.elite.config import TrainingStage
    from ..training.elite.train import train_elite
    from .elite_log import Log, SampleSheets

    config = config_of_options(args)
    subjects = subjects_of(args, config)
    start = load_encoder_files(args.elite, None) if args.elite else None
    if config.stage is TrainingStage.ALIGN:
        advice = "The stage align compares there: begin with the stage global instead."
        check_projection(args.checkpoint, advice)
    models = models_of(args)
    log = None
    if processes.index == 0:
        args.output.mkdir(parents=True, exist_ok=True)
        sheets = None
        if args.sample_every:
            prompts = args.sample_prompt or PROMPTS
            sheets = SampleSheets(
                models, sample_subjects(args, subjects), prompts=prompts,
                folder=args.output / "samples", size=config.resolution, steps=args.sample_steps,
            )  # fmt: skip
        log = Log(
            args.output, config, every=args.log_every, sample_every=args.sample_every, sheets=sheets
        )

    path = args.output / ENCODER
    about = {"licence": args.licence} if args.licence else {}

    def on_step(report: Any) -> None:
        if log is None:
            return
        log(report)
        if config.save_every and report.step % config.save_every == 0:
            save_encoder(as_written(report.learner.to_encoder(report.read), args), path, about)

    trained = train_elite(
        config, models, subjects, start=start, on_step=on_step,
        states=args.output / "states", resume=not args.fresh,
        processes=processes, threads=args.threads,
    )  # fmt: skip
    if processes.index == 0:
        save_encoder(as_written(trained.encoder, args), path, about)
        print(f"wrote {path}", flush=True)


def as_written(encoder: EliteEncoder, args: argparse.Namespace) -> EliteEncoder:
    """Named as its folder, in fp16 when asked for."""
    import torch

    from ..concepts.elite import as_type

    named = replace(encoder, name=args.output.resolve().name)
    return as_type(named, torch.float16) if args.half else named


def templates_of(file: Path | None) -> str:
    """A prompt a line; empty for the stage's own. Raises TrainingError for what is no text."""
    from ..concepts.errors import TrainingError

    try:
        return file.read_text(encoding="utf-8-sig") if file else ""
    except UnicodeDecodeError as error:
        raise TrainingError(f"{file} is no text in UTF-8: {error}. Save it as UTF-8.") from error


def config_of_options(args: argparse.Namespace) -> EliteConfig:
    from ..training.elite.config import EliteConfig

    return EliteConfig(
        stage=args.stage,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        train_seed=args.seed,
        resolution=args.resolution,
        flip=not args.no_flip,
        templates=templates_of(args.templates),
        weight_decay=args.weight_decay,
        precision=args.precision,
        gradient_checkpointing=args.gradient_checkpointing,
        keep_activations=args.keep_activations,
        save_every=args.save_every,
        words_weight=args.words_weight,
        values_weight=args.values_weight,
        accumulation=args.accumulation,
        micro_batch=args.micro_batch,
        warmup=args.warmup,
        cosine=args.cosine,
        start_scale=args.start_scale,
        average=args.average,
        projections_share=args.projections_share,
        zoom=not args.no_zoom,
        stretch=not args.no_stretch,
    )


def subjects_of(args: argparse.Namespace, config: EliteConfig) -> Subjects:
    from ..pictures.masks import MaskMarks
    from ..training.elite.config import MASKED
    from ..training.elite.folders import OpenImages, PictureFolder

    with_masks = config.stage in MASKED
    if args.open_images:
        return OpenImages(args.open_images, args.subset, with_masks)
    return PictureFolder(args.data, with_masks, MaskMarks(args.mask_marks))


def sample_subjects(args: argparse.Namespace, subjects: Subjects) -> list[Any]:
    """The subjects that the sheets show."""
    import torch

    from ..concepts.errors import PictureError
    from ..pictures.masks import MaskMarks
    from ..training.elite.folders import PictureFolder

    if args.sample_data:
        marks = MaskMarks(args.mask_marks)
        subjects = PictureFolder(args.sample_data, subjects.with_masks, marks)
    usable: list[Any] = []
    for n in range(len(subjects)):
        if len(usable) == args.sample_count:
            break
        with contextlib.suppress(PictureError):  # the training says so when it comes to it
            usable.append(subjects.load(n, torch.Generator().manual_seed(n)))
    return usable


def models_of(args: argparse.Namespace) -> EliteModels:
    from ..host.models import load_checkpoint, load_pack, load_vision
    from ..training.elite.train import EliteModels

    packs = [load_pack(folder) for folder in args.host_pack]
    return EliteModels(*load_checkpoint(args.checkpoint), load_vision(args.clip_vision, packs))
