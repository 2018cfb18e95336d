"""Keep the well-known names that Cross Initialization can average.

Cross Initialization (Pang et al. 2024) starts its words from the mean embedding of the first names
and of the last names of many famous people. That needs people whose first and last name are each
exactly one token of the CLIP vocabulary. `training/names.txt` was made like this: candidates were
written down from general knowledge (actors, musicians, athletes, politicians, scientists, writers
and artists of all times and countries); this script kept those that are two words of one token
each; at most five people share a first name and four a last name, so that no common name weighs too
much; fictional people and half names were removed by hand.

    python tools/run.py make_names                      check training/names.txt
    python tools/run.py make_names candidates.txt       print the accepted ones, report the rejected
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..cli.comfyui import ROOT, needed_host

NAMES = ROOT / "training" / "names.txt"


def clip_words(host: Path) -> set[str]:
    """The words, lower-cased, that are one token in the vocabulary of a ComfyUI checkout."""
    vocabulary = json.loads(
        (host / "comfy" / "sd1_tokenizer" / "vocab.json").read_text(encoding="utf-8")
    )
    return {token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>")}


def rejection(name: str, words: Collection[str]) -> str | None:
    """Why this line cannot stand in the list of names, or None when it can."""
    parts = name.split(" ")
    if len(parts) != 2:
        return f"expected two words, got {len(parts)}"
    unknown = [part for part in parts if part.lower() not in words]
    return f"more than one token: {', '.join(unknown)}" if unknown else None


def sort_out(
    names: Iterable[str], words: Collection[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Split names into (accepted, sorted) and (rejected, with the reason)."""
    accepted: dict[str, str] = {}
    rejected: list[tuple[str, str]] = []
    for name in names:
        reason = rejection(name, words)
        if reason is None and name.lower() in accepted:
            reason = "listed twice"
        if reason is None:
            accepted[name.lower()] = name
        else:
            rejected.append((name, reason))
    return [accepted[key] for key in sorted(accepted)], rejected


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("candidates", nargs="?", type=Path, help="a file, one name a line")
    args = parser.parse_args(arguments)
    lines = (args.candidates or NAMES).read_text(encoding="utf-8").splitlines()
    accepted, rejected = sort_out(filter(None, map(str.strip, lines)), clip_words(needed_host()))
    if args.candidates:
        sys.stdout.writelines(f"{name}\n" for name in accepted)
    for name, reason in rejected:
        print(f"rejected: {name} ({reason})", file=sys.stderr)
    print(f"{len(accepted)} accepted, {len(rejected)} rejected", file=sys.stderr)
    return 0 if args.candidates or not rejected else 1
