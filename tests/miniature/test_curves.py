"""Curves of logs: every point lies in the picture."""

import re

from personalize.miniature.train.curves import HEIGHT, WIDTH, drawing, of_elite


def test_four_stages_of_an_elite_training_stand_in_two_rows(tmp_path) -> None:
    stages = [tmp_path / name for name in ("align", "global", "words", "local")]
    for stage in stages:
        stage.mkdir()
        rows = [f"{step},{1 / step}" for step in (50, 100, 150)]  # --log-every 50, the default
        (stage / "log.csv").write_text("\n".join(["step,denoising", *rows]))
    svg = drawing(of_elite(stages))
    lines = re.findall(r'points="([^"]+)"', svg)
    points = [tuple(map(float, p.split(","))) for line in lines for p in line.split()]
    assert f'viewBox="0 0 {3 * WIDTH} {2 * HEIGHT}"' in svg
    assert len(points) == 4 * 3
    assert all(0 < x < 3 * WIDTH and 0 < y < 2 * HEIGHT for x, y in points)
    assert all(f"{stage.name}: denoising" in svg for stage in stages)
