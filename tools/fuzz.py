"""Try damaged files, odd names and requests, races, full disks and kills, from a seed.

    make fuzz                                  ten minutes, all kinds
    make fuzz ARGS="--seed 7 --minutes 60"
    make fuzz ARGS="--only 'concept files' --seed 7 --case 41"    one case again

What is tried stands in tests/fuzz; a short part of it runs with make test.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..cli.comfyui import ROOT

FOLDER = ROOT / "tests" / "fuzz"
GROUPS = {
    "in this process": [path for path in FOLDER.glob("test_*.py") if "servers" not in path.name],
    "on real servers": [FOLDER / "test_fuzz_servers.py"],
}
"""Two groups run beside each other, one on each of two cores."""
_SHARES = 13.0  # of the first group's kinds together, each being about one
_START = 40.0  # seconds until the first case
TESTS = {
    "concept files": "test_concept_files",
    "files of other programs": "test_files_of_other_programs",
    "encoder files": "test_encoder_files",
    "SAM files": "test_sam_files",
    "state files": "test_state_files",
    "failing disks": "test_failing_disks",
    "states on failing disks": "test_states_on_failing_disks",
    "races": "test_races",
    "names": "test_names",
    "prompts": "test_prompts",
    "requests to our routes": "test_requests",
    "cancels": "test_cancels",
    "kills": "test_kills",
    "prompts to a server": "test_prompts_to_a_server",
    "two servers on one output folder": "test_two_servers_on_one_output_folder",
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="the same seed tries the same cases")
    parser.add_argument("--only", choices=list(TESTS), help="one kind alone")
    parser.add_argument("--case", type=int, default=-1, help="of that kind the case of this number")
    options = parser.parse_args(arguments)
    seconds = options.minutes * 60
    each = seconds if options.only else max(seconds - _START, 1.0) / _SHARES
    with tempfile.TemporaryDirectory(prefix="personalize-fuzz-") as folder:
        table = Path(folder) / "table.jsonl"
        environment = {
            **os.environ,
            "PERSONALIZE_FUZZ_SEED": str(options.seed),
            "PERSONALIZE_FUZZ_SECONDS": str(each),
            "PERSONALIZE_FUZZ_CASE": str(options.case),
            "PERSONALIZE_FUZZ_TABLE": str(table),
        }
        runs = {
            group: start(files, options.only, environment, Path(folder) / f"{number}.log")
            for number, (group, files) in enumerate(GROUPS.items())
        }
        kinds = follow(runs, table)
        print(shown(kinds))
        logs = [Path(folder) / f"{number}.log" for number in range(len(runs))]
        failures = [failure for kind in kinds for failure in kind["failures"]]
        for failure in failures:
            print(f"\n{failure}", file=sys.stderr)
        wanted = {options.only} if options.only else set(TESTS)
        missing = wanted - {kind["name"] for kind in kinds}
        for log in logs if missing else ():
            print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
        if missing:
            print(f"Not tried: {', '.join(sorted(missing))}.", file=sys.stderr)
    return 1 if failures or missing else 0


def start(
    files: Sequence[Path], only: str | None, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:warnings"]
    chosen = ["-k", f"{TESTS[only]} and not {TESTS[only]}_"] if only else []
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, *chosen, *map(str, files)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def follow(runs: dict[str, subprocess.Popen[bytes]], table: Path) -> list[dict]:
    """Wait for all runs, telling of each kind as it ends; their lines of the table."""
    told = 0
    while True:
        ended = all(run.poll() is not None for run in runs.values())
        text = table.read_text(encoding="utf-8") if table.is_file() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may be half there
        for line in lines[told:]:
            kind = json.loads(line)
            print(f"{kind['name']}: {kind['held']} of {kind['tried']} held", flush=True)
        told = len(lines)
        if ended:
            return [json.loads(line) for line in lines]
        time.sleep(0.5)


def shown(kinds: Sequence[dict]) -> str:
    ordered = sorted(kinds, key=lambda kind: list(TESTS).index(kind["name"]))
    rows: dict[str, tuple[int, ...]] = {}
    rows |= {kind["name"]: (kind["tried"], kind["held"], len(kind["failures"])) for kind in ordered}
    rows["together"] = tuple(sum(row[n] for row in rows.values()) for n in range(3))
    head = f"{'kind':34}{'tried':>8}{'held':>8}{'failed':>8}"
    lines = [f"{name:34}{''.join(f'{number:>8}' for number in row)}" for name, row in rows.items()]
    return "\n".join(["", head, "-" * len(head), *lines])
