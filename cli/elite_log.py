"""What an ELITE training leaves to look at: a table, TensorBoard's files, and sheets of samples."""

from __future__ import annotations

import csv
import importlib.util
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..concepts.disk import remove, write_whole
from ..host.sampling import text_to_image
from ..pictures.masks import MaskMarks
from ..samplers.apply import apply_concept
from ..training.elite.encoding import encode_elite
from ..training.elite.examples import SubjectPicture
from ..training.zoom import resized

if TYPE_CHECKING:
    from ..training.elite.config import EliteConfig
    from ..training.elite.train import EliteModels
    from ..training.loop import StepReport

SHEET_PLACEHOLDER = "<subject>"
GUIDANCE = 5.0  # the paper's


class SampleSheets:
    """Pictures of subjects in rows, beside what is drawn of them for each prompt."""

    def __init__(
        self,
        models: EliteModels,
        subjects: Sequence[SubjectPicture],
        *,
        prompts: Sequence[str],
        folder: Path,
        size: int,
        steps: int,
    ) -> None:
        self.models, self.subjects, self.prompts = models, subjects, prompts
        self.folder, self.size, self.steps = folder, size, steps

    def write(self, report: StepReport) -> Path:
        """Draw the sheet of a step."""
        encoder = report.learner.to_encoder(report.read)
        with report.backbone.paused():
            rows = [self._row(encoder, subject) for subject in self.subjects]
        pixels = (torch.cat(rows).clamp(0, 1) * 255).round().byte().numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{report.step:06d}.png"
        Image.fromarray(pixels).save(path)
        return path

    def _row(self, encoder: Any, subject: SubjectPicture) -> Tensor:
        """(size, size * (1 + prompts), 3)"""
        models = self.models
        mask = None if subject.mask is None else subject.mask[None]
        picture = subject.picture[None]
        concept = encode_elite(
            encoder,
            models.clip_vision,
            picture,
            mask,
            placeholder=SHEET_PLACEHOLDER,
            marks=MaskMarks.SUBJECT,
        )
        model, clip = apply_concept(models.model, models.clip, concept)
        drawn = [resized(subject.picture.movedim(-1, 0), self.size).movedim(0, -1)]
        for prompt in self.prompts:
            text = prompt.replace("{}", SHEET_PLACEHOLDER)
            pictures = text_to_image(
                model, clip, models.vae, text, self.size, steps=self.steps, cfg=GUIDANCE
            )
            drawn.append(pictures[0])
        return torch.cat(drawn, dim=1)


class Log:
    """Callback of the training loop: prints, appends to log.csv, and draws sheets."""

    def __init__(
        self,
        folder: Path,
        config: EliteConfig,
        *,
        every: int,
        sample_every: int,
        sheets: SampleSheets | None,
    ) -> None:
        self._table, self._config = folder / "log.csv", config
        self._every, self._sample_every, self._sheets = every, sample_every, sheets
        self._board = _tensorboard(folder / "tensorboard")
        self._since = time.monotonic()
        self._logged: int | None = None

    def __call__(self, report: StepReport) -> None:
        last = report.step == report.steps
        if self._logged is None:
            self._logged = report.step - 1
            self._keep_lines_before(report.step)
        if report.step % self._every == 0 or last:
            self._line(report)
        if self._sheets is not None and (report.step % self._sample_every == 0 or last):
            self._sheets.write(report)

    def _line(self, report: StepReport) -> None:
        now, steps = time.monotonic(), report.step - (self._logged or 0)
        means = {name: _mean(values[-steps:]) for name, values in report.losses.items()}
        rate = self._config.learning_rate * self._config.rate(report.step - 1)
        values = {**means, "learning_rate": rate, "seconds_a_step": (now - self._since) / steps}
        self._since, self._logged = now, report.step
        self._append({"step": report.step, **values})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, report.step)
            self._board.flush()  # by itself it writes every two minutes, and not at the end
        told = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"step {report.step}/{report.steps}  {told}", flush=True)

    def _keep_lines_before(self, step: int) -> None:
        """A training that was killed had gone further than the state that it goes on from; at the
        first step the table is another training's."""
        if not self._table.exists():
            return
        with self._table.open(newline="", encoding="utf-8") as file:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
        kept = [row for row in rows if row[0].isdigit() and int(row[0]) < step]
        if not kept:
            remove(self._table)
            return
        table = io.StringIO(newline="")
        csv.writer(table).writerows([head, *kept])
        write_whole(table.getvalue().encode(), self._table)

    def _append(self, row: dict[str, float]) -> None:
        """A table that another program holds, as spreadsheets do, does not end the training."""
        new = not self._table.exists()
        try:
            with self._table.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            print(f"step {row['step']} is not in the table, which is open elsewhere: {error}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _tensorboard(folder: Path) -> Any:
    """A writer of TensorBoard's files, None where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
