"""Plots as inline SVG: plain text, so that the page needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

COLOURS = ("#7f8c8d", "#2471a3", "#c0392b", "#1e8449", "#b9770e", "#7d3c98", "#117a65", "#34495e")
PLOT_WIDTH, HEIGHT = 460, 340
LEFT, TOP, RIGHT, BOTTOM = 56, 18, 18, 46

PlotPoint = tuple[float, float]


def colour_of(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def scatter(groups: Mapping[str, Sequence[PlotPoint]], x_title: str, y_title: str) -> str:
    """One cloud a group, small dots its points and a large one their mean, named."""
    points = [point for group in groups.values() for point in group]
    x_ends, y_ends = (axis([p[k] for p in points]) for k in (0, 1))

    def place(point: PlotPoint) -> PlotPoint:
        across = (point[0] - x_ends[0]) / (x_ends[1] - x_ends[0])
        up = (point[1] - y_ends[0]) / (y_ends[1] - y_ends[0])
        wide, high = PLOT_WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * wide, HEIGHT - BOTTOM - up * high

    parts = [_grid(x_ends, y_ends, place), _titles(x_title, y_title)]
    labels = []
    for number, (name, group) in enumerate(groups.items()):
        if not group:
            continue
        colour = colour_of(number)
        for point in group:
            x, y = place(point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" opacity=".35"/>')
        x, y = place((_mean([p[0] for p in group]), _mean([p[1] for p in group])))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{colour}"/>')
        labels.append((x, y, name, colour))
    return _svg(PLOT_WIDTH, HEIGHT, [*parts, *_labels(labels)])


def bars(title: str, groups: Mapping[str, Sequence[float]]) -> str:
    """One bar a group from 0 to its mean, with a line from its least to its greatest value."""
    row, left, right = 26, 150, PLOT_WIDTH - 66
    top = 30
    greatest = max(max(values) for values in groups.values())
    scale = (right - left) / max(greatest, 1e-9)

    def across(value: float) -> float:
        return left + max(0.0, value) * scale

    parts = [f'<text x="0" y="14" class="title">{escape(title)}</text>']
    for number, (name, values) in enumerate(groups.items()):
        middle, mean = top + row * number + row / 2, _mean(values)
        low, high = across(min(values)), across(max(values))
        parts += [
            f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{middle - 8}" width="{across(mean) - left:.1f}" height="16" '
            f'rx="2" fill="{colour_of(number)}" opacity=".8"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} '
            f'{middle - 4}v8" stroke="#222" fill="none"/>',
            f'<text x="{right + 10}" y="{middle + 4}">{mean:.4g}</text>',
        ]
    return _svg(PLOT_WIDTH, top + row * len(groups) + 6, parts)


def axis(values: Sequence[float]) -> PlotPoint:
    """Ends of an axis with some room around the values."""
    low, high = min(values), max(values)
    room = (high - low) / 8 or abs(high) / 8 or 1.0
    return low - room, high + room


def _grid(x_ends: PlotPoint, y_ends: PlotPoint, place: Callable[[PlotPoint], PlotPoint]) -> str:
    parts = []
    for part in range(5):
        x = x_ends[0] + (x_ends[1] - x_ends[0]) * part / 4
        y = y_ends[0] + (y_ends[1] - y_ends[0]) * part / 4
        across, up = place((x, y))
        parts += [
            f'<path d="M{LEFT} {up:.1f}H{PLOT_WIDTH - RIGHT}'
            f'M{across:.1f} {TOP}V{HEIGHT - BOTTOM}" '
            'stroke="#e3e7eb"/>',
            f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{y:.3f}</text>',
            f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{x:.3f}</text>",
        ]
    return "".join(parts)


def _titles(x_title: str, y_title: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text x="{PLOT_WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" class="title">'
        f"{escape(x_title)}</text>"
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle" class="title">'
        f"{escape(y_title)}</text>"
    )


def _labels(labels: Sequence[tuple[float, float, str, str]]) -> list[str]:
    """Names beside their dots, moved down where two would touch."""
    parts, taken = [], -100.0
    for x, y, name, colour in sorted(labels, key=lambda label: label[1]):
        taken = max(y + 4, taken + 14)
        left = x > PLOT_WIDTH * 0.7
        anchor, start = ("end", x - 11) if left else ("start", x + 11)
        parts.append(
            f'<text x="{start:.1f}" y="{taken:.1f}" text-anchor="{anchor}" fill="{colour}" '
            f'class="title" stroke="#fff" stroke-width="3" paint-order="stroke">'
            f"{escape(name)}</text>"
        )
    return parts


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
