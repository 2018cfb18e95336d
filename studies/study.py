"""The study over all methods on the miniature, and what it says to the papers' claims.

    make study                            runs what is not known yet, then writes docs/study.md
    python tools/run.py study margin      how much nearer than the class word; also: methods,
                                          catversion, settings, layers, curves, claims

Every trial is kept in .study, under a digest of the weights and of its settings: an interrupted
study goes on where it stopped (the pack's code is not in the digest: delete .study after a change
that matters). --workers processes share the work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from ..cli.comfyui import ROOT, OnCpu, prepare_host
from ..miniature.files import WEIGHTS, BadWeights
from . import plans, report
from .claims import Results
from .plans import SMALL, Plan
from .recipes import recipes_for, without_encoder
from .trials import FOLDER, Trial, Trials, run_all

DOCS = ROOT / "docs"

Part = tuple[Callable[[Plan, Sequence[str]], list[Trial]], Callable[[Results, Plan], str]]
PARTS: dict[str, Part] = {
    "methods": (plans.methods_trials, report.methods_table),
    "margin": (plans.margin_trials, report.margin_table),
    "catversion": (plans.catversion_trials, report.catversion_table),
    "settings": (plans.settings_trials, report.settings_table),
    "layers": (plans.layers_trials, report.layers_table),
    "curves": (plans.curves_trials, report.curves_table),
    "claims": (plans.all_trials, report.claims_table),
}


def available(weights: Path) -> list[str]:
    """Keys of the recipes that this version of the pack can run."""
    prepare_host()
    from ..nodes import NODE_CLASS_MAPPINGS

    return list(recipes_for(NODE_CLASS_MAPPINGS, weights))


def known(trials: Trials, wanted: Sequence[Trial]) -> Results:
    found = {trial: trials.known(trial) for trial in dict.fromkeys(wanted)}
    return {trial: outcome for trial, outcome in found.items() if outcome}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=list(PARTS), help="print one table only")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps what was run")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--docs", type=Path, default=DOCS, help="where study.md is written")
    parser.add_argument("--small", action="store_true", help="everything once, nothing learned")
    parser.add_argument("--so-far", action="store_true", help="run nothing, tell what is known")
    parser.add_argument("--share", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--cpu", action=OnCpu)
    options = parser.parse_args(arguments)
    # the workers hear of it when they start; here torch is there already
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    plan = SMALL if options.small else Plan()
    planned, table = PARTS[options.part or "claims"]
    if table is report.methods_table:
        table = partial(report.methods_table, weights=options.weights)
    try:
        trials = Trials(options.folder, options.weights)
        wanted = planned(plan, available(options.weights))
        if options.share is None:
            for sentence in without_encoder(options.weights):
                print(sentence, flush=True)
        if not options.so_far:
            run_shared(trials, wanted, options, arguments)
    except BadWeights as error:
        print(error, file=sys.stderr)
        return 1
    if options.share is not None:
        return 0
    results = known(trials, wanted)
    if not results:
        print("Nothing of this has been run yet.")
        return 0
    print(f"\n{table(results, plan)}")
    if options.part is None:
        page = report.write_report(results, plan, trials.digest, options.docs, options.weights)
        print(f"\nwritten: {page}")
    return 0


def run_shared(
    trials: Trials, wanted: Sequence[Trial], options: argparse.Namespace, arguments: Sequence[str]
) -> None:
    """Run the trials in this process and, for more workers, in others that share the folder."""
    if options.share is not None or options.workers < 2:
        first, step = options.share or (0, 1)
        run_all(trials, wanted, (first, step))
        return
    command = [sys.executable, str(ROOT / "tools" / "run.py"), "study", *arguments]
    others = [
        subprocess.Popen([*command, "--share", json.dumps([k, options.workers])])
        for k in range(1, options.workers)
    ]
    try:
        run_all(trials, wanted, (0, options.workers))
    finally:
        codes = [other.wait() for other in others]
    if any(codes):
        sys.exit("A worker failed, see above. The same command goes on where it stopped.")
