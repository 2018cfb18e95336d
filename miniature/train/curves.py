"""Training curves from the logs, as SVG.

Run as `python -m miniature.train.curves docs/miniature-curves.svg`.
With --elite FOLDER..., the stages of an ELITE training by cli/run.py train_elite: their curves.
"""

import argparse
import csv
import math
from pathlib import Path
from statistics import mean

from ..cache import folder

WIDTH, HEIGHT, MARGIN = 300, 190, 34
# part, figure, kind of row, title
CURVES = [
    ("vae", "psnr", "check", "autoencoder, narrow: PSNR, dB"),
    ("vae_grown", "psnr", "check", "autoencoder, grown: PSNR, dB"),
    ("clip", "retrieval", "check", "pair: retrieval among 100"),
    ("text", "end", "train", "captions: loss of the factors"),
    ("unet", "mse", "train", "UNet: squared error of the noise"),
    ("attribute", "kind", "check", "attribute judge: class"),
    ("instance", "rank1", "check", "instance judge: first among 100"),
]
TOGETHER = 20  # steps of an ELITE training whose mean is a point
Points = list[tuple[float, float]]


def read(log: Path, figure: str, kind: str) -> Points:
    """(minutes, value) of one figure in a log."""
    points = []
    with log.open(newline="", encoding="utf-8") as f:
        for row in csv.reader(f):
            values = dict(cell.split("=") for cell in row[4:])
            if row[0] == kind and figure in values:
                points.append((float(row[2]) / 60, float(values[figure])))
    return points


def read_elite(log: Path) -> tuple[str, Points]:
    """What a stage makes small, and (steps, its value), means over TOGETHER steps where logged."""
    with log.open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    figure = "contrast" if "contrast" in rows[0] else "denoising"
    values = [(int(row["step"]), float(row[figure])) for row in rows]
    last, points = values[-1][0], []
    for start in range(0, last, TOGETHER):
        part = [value for step, value in values if start < step <= start + TOGETHER]
        if part:
            points.append((min(start + TOGETHER, last), mean(part)))
    return figure, points


def panel(points: Points, title: str, number: int, unit: str = "min") -> str:
    """One curve with its axes named at the ends, the number-th of a drawing, three in a row."""
    left, top = number % 3 * WIDTH, number // 3 * HEIGHT
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high, end = min(ys), max(ys), max(xs)
    spread = high - low or 1.0

    def place(x: float, y: float) -> str:
        u = left + MARGIN + x / end * (WIDTH - 1.5 * MARGIN)
        v = top + HEIGHT - MARGIN - (y - low) / spread * (HEIGHT - 2 * MARGIN)
        return f"{u:.1f},{v:.1f}"

    line = " ".join(place(x, y) for x, y in points if math.isfinite(y))
    middle, base = left + WIDTH / 2, top + HEIGHT - 12
    return "\n".join([
        f'<text x="{middle}" y="{top + 20}" text-anchor="middle">{title}</text>',
        f'<polyline points="{line}" fill="none" stroke="#3465a4" stroke-width="2"/>',
        f'<text x="{left + 2}" y="{top + MARGIN + 4}">{high:.3g}</text>',
        f'<text x="{left + 2}" y="{top + HEIGHT - MARGIN}">{low:.3g}</text>',
        f'<text x="{middle}" y="{base}" text-anchor="middle">{end:.0f} {unit}</text>',
    ])  # fmt: skip


def drawing(panels: list[str]) -> str:
    """Panels as a picture."""
    size = f'viewBox="0 0 {min(len(panels), 3) * WIDTH} {(len(panels) + 2) // 3 * HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11" fill="#444"'
    body = "\n".join(panels)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


def of_parts(root: Path) -> list[str]:
    panels: list[str] = []
    for part, figure, kind, title in CURVES:
        log = root / part / "log.csv"
        points = read(log, figure, kind) if log.exists() else []
        if len(points) > 1:
            panels.append(panel(points, title, len(panels)))
    return panels


def of_elite(folders: list[Path]) -> list[str]:
    panels: list[str] = []
    for number, place in enumerate(folders):
        figure, points = read_elite(place / "log.csv")
        panels.append(panel(points, f"{place.name}: {figure}", number, "steps"))
    return panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cache")
    parser.add_argument("--elite", type=Path, nargs="+", metavar="FOLDER")
    args = parser.parse_args()
    panels = of_elite(args.elite) if args.elite else of_parts(folder(args.cache))
    args.file.write_text(drawing(panels), encoding="utf-8")


if __name__ == "__main__":
    main()
