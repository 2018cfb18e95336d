"""What the vision encoder sees of unseen individuals: python -m miniature.measure_vision.

The class of things is read by the text encoder (zero-shot), and by linear probes of what ELITE
reads: the class token and the mean of the subject's patches of each picked layer.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .cache import world_people
from .comfy_pack.vocabulary import HOST_ROWS
from .files import load_pair
from .models.clip import Pair, VisionTower
from .models.vocabulary import Vocabulary
from .world.captions import caption
from .world.factors import FACTORS, labels
from .world.render import render
from .world.scene import CLASSES, Scene, random_object, random_person, random_scene

READ = (2, 3, 5, 7, 10)
"""Hidden states that ELITE reads of ten layers."""

GRID = 8  # patches a side
RIDGE = 10.0
COLOUR = list(FACTORS).index("colour")


def rendered(scenes: list[Scene]) -> Tensor:
    """(n, 4, 128, 128), the subject's mask as the fourth channel."""
    pictures = np.stack([np.dstack(render(scene)) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255)


def unseen(count: int, seed: int) -> list[Scene]:
    """Individuals that no training drew, half of them of combinations that none was shown."""
    rng = np.random.default_rng([91, seed])
    return [random_scene(rng, [], training=n % 2 == 0) for n in range(count)]


def random_views(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Grids (n, h, w, 2) that turn by up to 25 degrees, scale, and shift by up to 0.3 of the side:
    more than ELITE's training does.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(pictures), generator=generator) * (high - low) + low

    angle, scale = uniform(-25, 25).deg2rad(), uniform(0.8, 1.3)
    shift = torch.stack([uniform(-0.6, 0.6), uniform(-0.6, 0.6)], dim=1)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return F.affine_grid(torch.cat([turn, shift[..., None]], 2), list(pictures.shape), False)


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 4, h, w), black beside what was seen."""
    return F.grid_sample(pictures, random_views(pictures, generator), align_corners=False)


def alone(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """The subject on black, white or grey, (n, 4, h, w)."""
    ground = torch.randint(3, (len(pictures), 1, 1, 1), generator=generator) / 2
    mask = pictures[:, 3:]
    return torch.cat([pictures[:, :3] * mask + ground * (1 - mask), mask], 1)


@torch.no_grad()
def text_embeddings(pair: Pair, texts: list[str]) -> Tensor:
    """Normalised, (n, width)."""
    words = Vocabulary(list(range(HOST_ROWS)))
    parts = []
    for start in range(0, len(texts), 100):
        coded = [words.encode(text, 77) for text in texts[start : start + 100]]
        length = max(end for _, end in coded) + 1
        ids = torch.tensor([row[:length] for row, _ in coded])
        parts.append(pair.embed_text(ids, torch.tensor([end for _, end in coded])))
    return torch.cat(parts)


@torch.no_grad()
def picture_embeddings(tower: VisionTower, pictures: Tensor) -> Tensor:
    """Normalised, (n, width)."""
    parts = [tower.visual_projection(tower.pooled(p)) for p in pictures[:, :3].split(200)]
    return F.normalize(torch.cat(parts).float(), dim=-1)


@torch.no_grad()
def hidden(tower: VisionTower, pictures: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(depth, states (n, 1 + patches, width)) of the layers that ELITE reads."""
    x = tower.embedded(pictures)
    for number, layer in enumerate(tower.encoder.layers, 1):
        x = layer(x, None)
        if number in READ:
            yield number, x


def features(tower: VisionTower, pictures: Tensor) -> dict[tuple[str, int], Tensor]:
    """Class tokens, and means of the patches that show the subject, by kind and layer."""
    shown = (F.adaptive_avg_pool2d(pictures[:, 3:], GRID).flatten(1) > 0.5).float()[..., None]
    found: dict[tuple[str, int], list[Tensor]] = {}
    for start in range(0, len(pictures), 200):
        part = slice(start, start + 200)
        for depth, x in hidden(tower, pictures[part, :3]):
            mean = (x[:, 1:] * shown[part]).sum(1) / shown[part].sum(1).clamp(min=1)
            found.setdefault(("class token", depth), []).append(x[:, 0])
            found.setdefault(("patches", depth), []).append(mean)
    return {key: torch.cat(parts) for key, parts in found.items()}


def probe(train: Tensor, kinds: Tensor, test: Tensor, wanted: Tensor) -> float:
    """Accuracy of a ridge regression onto one-hot classes."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    ones = torch.ones(len(train), 1)
    x, y = torch.cat([(train - mean) / spread, ones], 1).double(), F.one_hot(kinds).double()
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]).double(), x.T @ y)
    t = torch.cat([(test - mean) / spread, torch.ones(len(test), 1)], 1).double()
    return share((t @ weights).argmax(1) == wanted)


def share(right: Tensor) -> float:
    return float(right.float().mean())


def zero_shot(tower: VisionTower, pictures: Tensor, kinds: Tensor, prompts: Tensor) -> float:
    return share((picture_embeddings(tower, pictures) @ prompts.T).argmax(1) == kinds)


def retrieval(tower: VisionTower, pair: Pair, scenes: list[Scene]) -> float:
    """Share of captions whose picture comes first among 100; scenes: a multiple of 100."""
    rng = np.random.default_rng([92, 0])
    texts = text_embeddings(pair, [caption(scene, rng).text for scene in scenes])
    groups = zip(
        texts.split(100), picture_embeddings(tower, rendered(scenes)).split(100), strict=True
    )
    first = [(t @ v.T).argmax(1) == torch.arange(len(t)) for t, v in groups]
    return share(torch.cat(first))


def measure(tower: VisionTower, pair: Pair, learn: int = 2400, test: int = 800) -> dict[str, float]:
    """Shares by name. learn, test: scenes for the probes and for all that is measured."""
    generator = torch.Generator().manual_seed(5)
    things = [[s for s in unseen(n, k) if s.kind != "person"] for k, n in enumerate((learn, test))]
    before, after = map(rendered, things)
    known, kinds = (torch.tensor([CLASSES.index(s.kind) for s in part]) for part in things)
    tones, colours = (torch.tensor([labels(s)[COLOUR] for s in part]) for part in things)
    prompts = text_embeddings(pair, [f"a photo of a {name}" for name in CLASSES])
    found = {"class, zero-shot": zero_shot(tower, after, kinds, prompts)}
    for name, change in (("turned and shifted", moved), ("alone on a ground", alone)):
        changed = change(after, generator)
        found[f"class, zero-shot, {name}"] = zero_shot(tower, changed, kinds, prompts)
    learned, shown = features(tower, before), features(tower, after)
    for key, x in learned.items():
        place = f"probe of {key[0]}, layer {key[1]}"
        found[f"class, {place}"] = probe(x, known, shown[key], kinds)
        found[f"colour, {place}"] = probe(x, tones, shown[key], colours)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    pair, rng = load_pair(), np.random.default_rng(93)
    found = measure(pair.vision, pair)
    people = rng.permutation(world_people())[:200]
    sets = {
        "things": [random_object(rng) for _ in range(400)],
        "people without a name": [random_person(rng) for _ in range(400)],
        "people by their names": [random_person(rng, name) for name in people],
    }
    for name, scenes in sets.items():
        found[f"first among 100, {name}"] = retrieval(pair.vision, pair, scenes)
    print("| what | share |\n|---|---|")
    print("\n".join(f"| {name} | {100 * value:.1f} % |" for name, value in found.items()))


if __name__ == "__main__":
    main()
