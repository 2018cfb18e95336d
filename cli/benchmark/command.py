"""The benchmark command: options, the loop over all cells, progress."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from ...concepts.errors import DiskError, PersonalizeError
from ..client import ClientError, ComfyClient, Message, Run, RunError, Workflow
from ..workflows import ObjectInfo
from .data import CLASSES_FILE, DataError, Prompts, Subject, read_prompts, read_subjects
from .jobs import (
    SAVE,
    SCORES_NODE,
    SECOND_SCORES,
    SHOW,
    TRAIN,
    UNTOUCHED,
    JobError,
    MethodNode,
    Settings,
    draw_workflow,
    find_methods,
    learn_workflow,
)
from .page import write_page
from .results import (
    Cell,
    Drawn,
    LearnedConcept,
    Result,
    digest,
    drawn_path,
    read_drawn,
    read_learned,
    write,
    write_table,
)
from .uploads import mask_to_send, picture_to_send

LONGEST = 7 * 24 * 3600.0
"""Seconds that one job may take: the user cancels, not we."""


@dataclass(frozen=True)
class Plan:
    """Everything that is to be done, in order: all of a cell before the next one."""

    subjects: Sequence[Subject]
    prompts: Prompts
    prompt_count: int
    methods: Sequence[MethodNode]
    seeds: Sequence[int]

    def prompts_of(self, subject: Subject) -> Sequence[str]:
        prompts = self.prompts.of(subject)
        return prompts[: self.prompt_count] if self.prompt_count else prompts

    def jobs(self) -> int:
        """Prompts to draw."""
        each = sum(len(self.prompts_of(subject)) for subject in self.subjects)
        return each * len(self.methods) * len(self.seeds)


@dataclass(frozen=True)
class _Job:
    """A cell with what it is made from; files, masks: names of its pictures on the server."""

    cell: Cell
    subject: Subject
    method: MethodNode
    files: Sequence[str]
    masks: Sequence[str]


class Benchmark:
    """Runs a plan on a server, skipping what is done.

    results: all that is there by now and was made as the plan wants it; failed: what was not, why
    """

    def __init__(self, client: ComfyClient, plan: Plan, settings: Settings, output: Path) -> None:
        self._client, self._plan, self._settings, self._output = client, plan, settings, output
        self._screen = Screen(plan.jobs())
        self.results: list[Result] = []
        self.failed: list[str] = []

    def run(self) -> None:
        for subject in self._plan.subjects:
            files = [self._send(subject, *picture_to_send(path)) for path in subject.pictures]
            pairs = zip(subject.masks, subject.pictures, strict=bool(subject.masks))
            masks = [self._send(subject, *mask_to_send(*pair)) for pair in pairs]
            for method in self._plan.methods:
                for seed in self._plan.seeds:
                    cell = Cell(subject.name, method.name, seed)
                    if self._run_cell(_Job(cell, subject, method, files, masks)):
                        self._report_so_far()

    def _report_so_far(self) -> None:
        """What another program has open, such as a table, is written with the next cell."""
        try:
            self.report()
        except DiskError as error:
            print(f"    {error}", flush=True)

    def report(self) -> Path:
        """Write the table and the page of what is there."""
        write_table(self._output, self.results)
        return write_page(self._output, self.results, self._plan.subjects, self._settings)

    def _run_cell(self, job: _Job) -> bool:
        """Learn, then draw every prompt; True if anything was done that was not done before."""
        templates = self._plan.prompts_of(job.subject)
        try:
            learned, fresh = self._learn(job)
        except (RunError, ClientError) as error:
            self._fail(f"{job.cell}: {error}", len(templates))
            return False
        for number, template in enumerate(templates):
            try:
                drawn, now = self._draw(job, learned, number, template)
            except (RunError, ClientError) as error:
                self._fail(f"{job.cell}, '{template}': {error}", 1)
                continue
            fresh = fresh or now
            self.results.append(Result(job.cell, learned, drawn))
        return fresh

    def _learn(self, job: _Job) -> tuple[LearnedConcept | None, bool]:
        """The concept, and whether it was learned now; None for the untouched model."""
        if job.method.name == UNTOUCHED:
            return None, False
        cell = job.cell
        filename = f"benchmark/{cell.subject}-{cell.method}-{cell.seed}"
        workflow = learn_workflow(
            job.method,
            job.subject,
            files=job.files,
            masks=job.masks,
            settings=self._settings,
            seed=cell.seed,
            filename=filename,
        )
        before = read_learned(self._output, cell)
        if before and before.made_by == digest(workflow) and before.concept in self._concepts():
            return before, False
        self._screen.begin(f"{cell}: learning")
        clock = Clock(TRAIN)

        def watch(message: Message) -> None:
            clock.hear(message)
            self._screen.hear(message)

        run = self._ask(workflow, watch)
        (path,) = run.outputs[SAVE]["concepts"]
        learned = LearnedConcept(
            made_by=digest(workflow),
            concept=_listed_name(path, self._concepts()),
            seconds=clock.seconds,
            steps=int(workflow[TRAIN]["inputs"].get("steps", 0)),
        )
        write(cell.folder(self._output) / "concept.json", learned)
        self._screen.end(f"learned in {clock.seconds:.0f} s", count=0)
        return learned, True

    def _draw(
        self, job: _Job, learned: LearnedConcept | None, number: int, template: str
    ) -> tuple[Drawn, bool]:
        """Pictures and scores of a prompt, and whether they were made now."""
        cell, seed = job.cell, 1000 * job.cell.seed + number
        prompt = job.method.prompt(template, job.subject.class_word)
        concept = learned.concept if learned else ""
        workflow = draw_workflow(
            concept,
            prompt,
            job.subject,
            files=job.files,
            masks=job.masks,
            settings=self._settings,
            seed=seed,
        )
        before = read_drawn(self._output, cell, number)
        if before is not None and before.made_by == digest(workflow):
            self._screen.skip()
            return before, False
        self._screen.begin(f"{cell}: {template}")
        run = self._ask(workflow, self._screen.hear)
        # other pictures come into its place: stopped now, they would be taken for those it tells of
        drawn_path(self._output, cell, number).unlink(missing_ok=True)
        scores, means = scores_of(run, self._settings)
        drawn = Drawn(
            made_by=digest(workflow),
            number=number,
            template=template,
            prompt=prompt,
            seed=seed,
            pictures=self._fetch(cell, number, run.outputs[SHOW]["images"]),
            scores=scores,
            means=means,
        )
        write(drawn_path(self._output, cell, number), drawn)
        self._screen.end("  ".join(f"{name} {v:.3f}" for name, v in drawn.means.items()))
        return drawn, True

    def _fetch(self, cell: Cell, number: int, files: Sequence[dict[str, str]]) -> tuple[str, ...]:
        folder = cell.folder(self._output)
        folder.mkdir(parents=True, exist_ok=True)
        names = tuple(f"prompt{number:02}-{count}.png" for count in range(len(files)))
        for name, file in zip(names, files, strict=True):
            (folder / name).write_bytes(self._client.fetch(file))
        return names

    def _ask(self, workflow: Workflow, on_message: Callable[[Message], None]) -> Run:
        """Run a workflow; stopped here, it is stopped there."""
        prompt_id = self._client.queue(workflow)
        try:
            return self._client.wait(prompt_id, on_message, LONGEST)
        except KeyboardInterrupt:
            self._client.interrupt(prompt_id)
            raise

    def _send(self, subject: Subject, content: bytes, ending: str) -> str:
        name = f"benchmark-{subject.name}-{hashlib.sha256(content).hexdigest()[:12]}{ending}"
        return self._client.upload_image(name, content)

    def _concepts(self) -> list[str]:
        info = self._client.object_info("PersonalizeLoadConcept")
        return options_of(info, "PersonalizeLoadConcept", "concept_name")

    def _fail(self, what: str, count: int) -> None:
        self.failed.append(what)
        self._screen.end(f"failed: {what}", count)


def scores_of(
    run: Run, settings: Settings
) -> tuple[tuple[dict[str, float], ...], dict[str, float]]:
    """Of each picture, and their means, by name; those of the second CLIP have its name behind
    theirs."""
    told = json.loads(run.outputs[SCORES_NODE]["scores"][0])
    rows, means = told["pictures"], told["means"]
    if settings.second_clip:
        more = json.loads(run.outputs[SECOND_SCORES]["scores"][0])
        rows = [
            row | _named(other, settings.second_clip)
            for row, other in zip(rows, more["pictures"], strict=True)
        ]
        means = means | _named(more["means"], settings.second_clip)
    return tuple({k: v for k, v in row.items() if k != "prompt"} for row in rows), means


def _named(scores: dict[str, float], clip: str) -> dict[str, float]:
    return {f"{name} ({clip})": v for name, v in scores.items() if name != "prompt"}


class Clock:
    """Seconds that the server spent in one node, from its messages."""

    def __init__(self, node: str) -> None:
        self._node, self._start, self.seconds = node, 0.0, 0.0

    def hear(self, message: Message) -> None:
        if message.kind != "executing":
            return
        now = time.monotonic()
        if self._start:
            self.seconds, self._start = now - self._start, 0.0
        if message.data.get("node") == self._node:
            self._start = now


class Screen:
    """One line a job, its number and the time that is left; the server's own progress between."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._skipped = total, 0, 0
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._last = 0

    def skip(self) -> None:
        self._done += 1
        self._skipped += 1

    def begin(self, what: str) -> None:
        print(f"[{self._done + 1}/{self._total}{self._left()}] {what}", flush=True)

    def hear(self, message: Message) -> None:
        """The server's line of text, over the last one, where the screen can do that."""
        if message.kind == "text" and self._live:
            text = f"    {message.data['text']}"[:118]
            print(f"\r{text:<{self._last}}", end="", flush=True)
            self._last = len(text)

    def end(self, what: str, count: int = 1) -> None:
        clear = f"\r{'':<{self._last}}\r" if self._last else ""
        self._last = 0
        print(f"{clear}    {what}", flush=True)
        self._done += count

    def _left(self) -> str:
        made = self._done - self._skipped
        if made < 1:
            return ""
        each = (time.monotonic() - self._began) / made
        return f", {_duration(each * (self._total - self._done))} left"


def options_of(info: ObjectInfo, node: str, name: str) -> list[str]:
    """What a combo of a node offers. Raises DataError for a node without it."""
    groups = info[node]["input"]
    entry = groups.get("required", {}).get(name) or groups.get("optional", {}).get(name)
    if entry is None:
        raise DataError(f"The node {node} of this ComfyUI has no input {name}.")
    return list(entry[0] if isinstance(entry[0], list) else entry[1]["options"])


def _listed_name(path: str, names: Sequence[str]) -> str:
    """The name of a saved file in Load Concept's list."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    fitting = [n for n in names if PurePosixPath(n.replace("\\", "/")).parts == parts[-_depth(n) :]]
    if not fitting:
        raise ClientError(f"The server saved {path}, but does not list it in Load Concept.")
    return max(fitting, key=len)


def _depth(name: str) -> int:
    return len(PurePosixPath(name.replace("\\", "/")).parts)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"


# --- the command ------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    defaults = {field.name: field.default for field in fields(Settings)}
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description="Every method on every subject and prompt, on a running ComfyUI. Stop it "
        "whenever you like: the same command goes on where it stopped.",
    )
    add = parser.add_argument
    add("subjects", type=Path, help="folder with a sub-folder a subject, as DreamBench")
    add("--output", type=Path, default=Path("benchmark"), help="folder of the results")
    add("--address", default="http://127.0.0.1:8188", help="of the running ComfyUI")

    what = parser.add_argument_group("what").add_argument
    what("--only", nargs="+", default=[], metavar="SUBJECT", help="of the folder; all if left out")
    what("--prompts", type=Path, help=f"DreamBench's file or a prompt a line; {CLASSES_FILE}")
    what("--prompt-count", type=int, default=0, help="the first so many; 0: all")
    what("--methods", nargs="+", default=[], help="all that the server has, if left out")
    what("--seeds", type=int, nargs="+", default=[0], help="of the training; drawing follows")
    what("--images", type=int, default=defaults["images"], help="pictures a prompt")
    what("--references", type=int, default=0, help="pictures to learn from; 0: all")
    what("--steps", nargs="+", default=[], metavar="[METHOD=]N", help="training steps")
    what("--set", nargs="+", default=[], metavar="[METHOD.]INPUT=VALUE", help="inputs of methods")

    models = parser.add_argument_group("models, by the names the server lists").add_argument
    models("--checkpoint", required=True)
    models("--clip", required=True, metavar="FOLDER", help="in models/clip_metrics, to score with")
    models("--second-clip", default="", metavar="FOLDER", help="another one, to score with, too")
    models("--dino", default="", metavar="FOLDER", help="in models/clip_metrics")
    models("--identity", default="", metavar="FOLDER", help="in models/clip_metrics")
    models("--clip-vision", default="", help="for methods that see")
    models("--clip-vision-loader", default=defaults["clip_vision_loader"], help="its node")
    models("--elite-global", default="", help="for ELITE")
    models("--elite-local", default=defaults["elite_local"])
    models("--sam", default="", help="makes the masks that are missing, and those of the results")

    drawing = parser.add_argument_group("drawing").add_argument
    drawing("--resolution", type=int, default=defaults["resolution"], help="also of the training")
    drawing("--sampler", default=defaults["sampler"])
    drawing("--scheduler", default=defaults["scheduler"])
    drawing("--sampling-steps", type=int, default=defaults["sampling_steps"])
    drawing("--guidance", type=float, default=defaults["guidance"])
    drawing("--negative", default="", help="negative prompt")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    names = {field.name for field in fields(Settings)} - {"overrides"}
    known = {name: getattr(options, name) for name in names}
    return Settings(**known, overrides=parse_overrides(options.steps, options.set))


def parse_overrides(steps: Sequence[str], others: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``["CatVersion=500"]``, ``["DETEX.batch_size=2"]`` -> inputs by method, "" for all."""
    overrides: dict[str, dict[str, Any]] = {}
    for text in steps:
        method, _, count = text.rpartition("=")
        if not count.isdigit():
            raise DataError(f"--steps {text}: expected 300 or CatVersion=300.")
        overrides.setdefault(method, {})["steps"] = int(count)
    for text in others:
        left, equals, value = text.partition("=")
        method, _, name = left.rpartition(".")
        if not (equals and name):
            raise DataError(f"--set {text}: expected batch_size=2 or DETEX.batch_size=2.")
        overrides.setdefault(method, {})[name] = _value(value)
    return overrides


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_plan(
    options: argparse.Namespace, methods: dict[str, MethodNode], settings: Settings
) -> Plan:
    """Raises DataError for what cannot be; methods that lack something are left out if no method
    was named."""
    named = options.methods or list(methods)
    told = {name.lower(): method for name, method in methods.items()}
    unknown = [name for name in named if name.lower() not in told]
    if unknown:
        raise DataError(f"No method {', '.join(unknown)}. The server has: {', '.join(methods)}.")
    strangers = {m for m in settings.overrides if m} - set(methods)
    if strangers:
        raise DataError(
            f"--steps or --set names {', '.join(sorted(strangers))}, which is no method."
        )
    subjects = read_subjects(options.subjects, options.only)
    for line in (line for subject in subjects for line in subject.left_out):
        print(f"left out: {line}")
    chosen = []
    for method in (told[name.lower()] for name in named):
        lack = lacking(method, subjects, settings)
        if lack and options.methods:
            raise DataError(lack)
        if lack:
            print(f"left out: {lack}")
        else:
            chosen.append(method)
    return Plan(
        subjects=subjects,
        prompts=read_prompts(options.prompts or options.subjects / CLASSES_FILE),
        prompt_count=options.prompt_count,
        methods=chosen,
        seeds=options.seeds,
    )


def lacking(method: MethodNode, subjects: Sequence[Subject], settings: Settings) -> str:
    """What keeps a method from being run on these subjects, "" if nothing does."""
    for subject in subjects:
        files = [path.name for path in subject.pictures]
        masks = [path.name for path in subject.masks]
        try:
            if method.node:
                learn_workflow(
                    method, subject, files=files, masks=masks, settings=settings, seed=0,
                    filename="",
                )  # fmt: skip
        except JobError as error:
            return f"{error} (first seen with {subject.name})"
    return ""


def check_names(info: ObjectInfo, settings: Settings) -> None:
    """Raise DataError for what the server does not list, before anything is done."""
    wanted = {
        "checkpoint": ("CheckpointLoaderSimple", "ckpt_name", settings.checkpoint),
        "clip": ("PersonalizeEvaluate", "clip_folder", settings.clip),
        "second-clip": ("PersonalizeEvaluate", "clip_folder", settings.second_clip),
        "dino": ("PersonalizeEvaluate", "dino_folder", settings.dino),
        "identity": ("PersonalizeEvaluate", "identity_folder", settings.identity),
        "clip-vision": (settings.clip_vision_loader, "clip_name", settings.clip_vision),
        "elite-global": ("PersonalizeLoadELITE", "global_mapper", settings.elite_global),
        "elite-local": (
            "PersonalizeLoadELITE",
            "local_mapper",
            settings.elite_local if settings.elite_global else "",
        ),
        "sam": ("PersonalizeLoadSAM", "sam_name", settings.sam),
        "sampler": ("KSampler", "sampler_name", settings.sampler),
        "scheduler": ("KSampler", "scheduler", settings.scheduler),
    }
    for option, (node, name, value) in wanted.items():
        if not value:
            continue
        if node not in info:
            raise DataError(f"--{option}: this ComfyUI has no node {node}.")
        listed = options_of(info, node, name)
        if value not in listed:
            raise DataError(
                f"--{option} {value}: the server does not list it. It has: {', '.join(listed)}."
            )


def main(arguments: Sequence[str] = ()) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    client = ComfyClient(options.address)
    again = "Run the same command again to go on: what is done is kept."
    try:
        return _run(client, options)
    except DataError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"\nStopped. {again}")
        return 130
    except (ClientError, PersonalizeError, OSError) as error:
        print(f"\n{error}\n{again}")
        return 2
    finally:
        client.close()


def _run(client: ComfyClient, options: argparse.Namespace) -> int:
    settings = settings_of(options)
    info = client.object_info()
    if "PersonalizeEvaluate" not in info:
        raise DataError(f"The ComfyUI at {options.address} has no node Evaluate Concept.")
    check_names(info, settings)
    plan = make_plan(options, find_methods(info), settings)
    options.output.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(client, plan, settings, options.output)
    try:
        print(
            f"subjects: {', '.join(subject.name for subject in plan.subjects)}\n"
            f"methods: {', '.join(method.name for method in plan.methods)}\n"
            f"seeds: {', '.join(map(str, plan.seeds))}; prompts to draw: {plan.jobs()}",
            flush=True,
        )
        benchmark.run()
    finally:
        print(f"page: {benchmark.report()}")
    for line in benchmark.failed:
        print(f"failed: {line}")
    return 1 if benchmark.failed else 0
