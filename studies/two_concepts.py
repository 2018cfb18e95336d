"""Two concepts with different weights in one picture: three ways, measured on the miniature.

    python tools/run.py two_concepts --steps 60

Two things are learned with Custom Diffusion. Then, in keys and values of all cross attentions:
    sum        both concepts' changes act everywhere, as two Apply Concept nodes add them
    merged     one change for both by Custom Diffusion's closed form: exact on the concepts' words
               in plain prompts, least elsewhere (Kumari et al. 2023, section 3.3)
    own        each concept's change acts in the prompts that name it: own_prompts_only
The error is the distance to the keys and values with that concept alone, by the size of its change;
in prompts about neither, the distance to the stock ones by the mean size of both changes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..cli.comfyui import OnCpu, prepare_host

if TYPE_CHECKING:
    from torch import Tensor

    from ..concepts.concept import Concept
    from .miniature_models import Miniature

NAMES = "<one>", "<two>"
PROMPTS = (
    "a photo of a {} on the beach",
    "a {} in the snow",
    "a photo of a {} upside down on the grass",
    "a {} at night under the moon",
)
RIDGE = 1e-3  # of the regularisation's mean, for a system that rows of few captions leave open
Weights = Mapping[str, "Tensor"]


def learned(models: Miniature, number: int, steps: int) -> Concept:
    from ..miniature.subjects import thing
    from ..training.custom_diffusion import CustomDiffusionConfig
    from ..training.learn import learn

    subject = thing(number)
    config = CustomDiffusionConfig(
        placeholder=NAMES[number], class_word=subject.class_word, resolution=128, steps=steps,
        batch_size=4, learning_rate=5e-4, prior_weight=0.0, flip=False, zoom=False,
        save_every=0,
    )  # fmt: skip
    return learn(config, models.sources([subject.references.pictures])).concept


def encoded(clip: Any, text: str) -> Tensor:
    """Conditioning of a prompt, (77, d)."""
    import torch

    with torch.inference_mode():
        tokens = clip.tokenize(text)
        cond = clip.encode_from_tokens_scheduled(tokens, show_pbar=False)[0][0]
    return cond[0].float().clone()


def word_rows(clip: Any, text: str) -> Tensor:
    """Rows of the conditioning in which a concept's words stand."""
    from ..samplers.prompt_words import mark_of

    (chunks,) = clip.tokenize(text).values()
    rows = [n for n, entry in enumerate(chunks[0]) if mark_of(entry[0])]
    return encoded(clip, text)[rows]


def merged(changes: Sequence[Weights], words: Sequence[Tensor], captions: Tensor) -> Weights:
    """D = R (C G^-1 C^T)^-1 C G^-1: what each concept's change does to its words C, and least to
    the captions, G their second moment.

    changes: by path; words: rows of each concept, (s, d); captions: rows, (n, d)
    """
    import torch

    moment = captions.T @ captions
    moment += RIDGE * moment.diagonal().mean() * torch.eye(len(moment))
    c = torch.cat(list(words))
    away = torch.linalg.solve(moment, c.T).T  # C G^-1
    gram = c @ away.T
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram))
    return {
        path: torch.linalg.solve(
            gram, torch.cat([w @ d[path].T for w, d in zip(words, changes, strict=True)])
        ).T @ away
        for path in changes[0]
    }  # fmt: skip


def error(way: Weights, target: Weights | None, scale: Sequence[Weights], rows: Tensor) -> float:
    """Distance of keys and values to the target's, by the mean size of the changes in `scale`."""

    def size(of: Weights) -> float:
        return sum((rows @ d.T).square().sum().item() for d in of.values()) ** 0.5

    apart = {p: d - target[p] for p, d in way.items()} if target is not None else way
    return size(apart) / (sum(map(size, scale)) / len(scale))


def errors(concepts: Sequence[Concept], clip: Any) -> list[str]:
    import torch

    from ..concepts.differences import weight_differences
    from ..training.templates import OBJECT_TEMPLATES

    changes = [weight_differences(concept) for concept in concepts]
    zero = {path: torch.zeros_like(d) for path, d in changes[0].items()}
    nouns = ("dog", "house", "robot", "boat", "person", "red ball", "green box", "yellow duck")
    captions = [encoded(clip, t.format(noun)) for t in OBJECT_TEMPLATES for noun in nouns]
    taught = ("a photo of a {}", "photo of a {}", "a {}")
    words = [torch.cat([word_rows(clip, t.format(n)) for t in taught]) for n in NAMES]
    summed = {path: changes[0][path] + changes[1][path] for path in zero}
    one = merged(changes, words, torch.cat(captions))
    lines = ["| prompts | sum | merged | own |", "|---|---|---|---|"]
    for number, name in enumerate(NAMES):
        rows = torch.cat([encoded(clip, p.format(name)) for p in PROMPTS])
        own = changes[number]
        cells = [error(way, own, [own], rows) for way in (summed, one, own)]
        lines.append(f"| about `{name}` | " + " | ".join(f"{e:.3f}" for e in cells) + " |")
    rows = torch.cat([encoded(clip, p.format("fish")) for p in PROMPTS])
    cells = [error(way, None, changes, rows) for way in (summed, one, zero)]
    lines.append("| about neither | " + " | ".join(f"{e:.3f}" for e in cells) + " |")
    return [*lines, *same_prompt(changes, (summed, one, summed), clip)]


def same_prompt(changes: Sequence[Weights], ways: Sequence[Weights], clip: Any) -> list[str]:
    """Rows of each concept's words where both stand in one prompt."""
    import torch

    from ..samplers.prompt_words import mark_of

    texts = [f"a photo of a {NAMES[0]} beside a {NAMES[1]}", f"a {NAMES[1]} and a {NAMES[0]}"]
    cells = [0.0, 0.0, 0.0]
    for number, name in enumerate(NAMES):
        rows = []
        for text in texts:
            (chunks,) = clip.tokenize(text).values()
            marks = [mark_of(entry[0]) for entry in chunks[0]]
            here = [n for n, m in enumerate(marks) if m and m.applied.concept.placeholder == name]
            rows.append(encoded(clip, text)[here])
        own = changes[number]
        for n, way in enumerate(ways):
            cells[n] += error(way, own, [own], torch.cat(rows)) / 2
    return ["| both in one, their words | " + " | ".join(f"{e:.3f}" for e in cells) + " |"]


def costs(models: Miniature, concepts: Sequence[Concept], rounds: int) -> list[str]:
    """Processor milliseconds of a sampling step, with a prompt about one concept and a negative."""
    import torch

    from ..host.sampling import text_to_image
    from ..samplers.apply import apply_concept

    prompt = PROMPTS[0].format(NAMES[0])
    seconds: dict[str, list[float]] = {"sum": [], "own": []}
    for _ in range(rounds):
        for name in seconds:
            patched = models.model, models.clip
            for concept in concepts:
                patched = apply_concept(*patched, concept, own_prompts=name == "own")
            with torch.inference_mode():
                text_to_image(*patched, models.vae, prompt, 128, steps=1)  # loads and patches
                used = time.process_time()
                text_to_image(*patched, models.vae, prompt, 128, steps=1)
                few = time.process_time() - used
                used = time.process_time()
                text_to_image(*patched, models.vae, prompt, 128, steps=11)
                seconds[name].append((time.process_time() - used - few) / 10)
    middle = {name: 1000 * median(values) for name, values in seconds.items()}
    share = middle["own"] / middle["sum"] - 1
    return [
        f"a step takes {middle['sum']:.1f} processor ms with both patched into the weights, "
        f"{middle['own']:.1f} in their own prompts ({share:+.1%})"
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="two_concepts", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--steps", type=int, default=60, help="of learning each of the two")
    parser.add_argument("--rounds", type=int, default=3, help="of the timing")
    parser.add_argument("--weights", type=Path, help="folder of the miniature's files")
    parser.add_argument("--cpu", action=OnCpu)
    options = parser.parse_args(arguments)
    prepare_host()
    from ..miniature.files import WEIGHTS
    from ..samplers.apply import apply_concept
    from .miniature_models import load_miniature

    models = load_miniature(options.weights or WEIGHTS)
    concepts = [learned(models, number, options.steps) for number in range(2)]
    patched = models.model, models.clip
    for concept in concepts:
        patched = apply_concept(*patched, concept)
    print("\n".join([*errors(concepts, patched[1]), ""]), flush=True)
    print("\n".join(costs(models, concepts, options.rounds)))
    return 0
