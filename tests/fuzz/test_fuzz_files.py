"""Files of every kind, damaged and crafted: read as they were written, or refused in a sentence."""

import random
from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.cards import read_card
from personalize.concepts.concept import Concept
from personalize.concepts.elite_files import (
    digest_in_file,
    find_encoder,
    load_encoder_files,
    save_encoder,
)
from personalize.concepts.files import files_of, load_concept, save_concept
from personalize.host.sam import load_sam
from personalize.samplers.apply import apply_concept
from personalize.tests.elite_models import random_encoder, weights_of
from personalize.tests.fuzz.campaign import told
from personalize.tests.fuzz.mutations import changed, damaged
from personalize.tests.sam_models import save_sam
from personalize.training.loop import TrainState
from personalize.training.states import StateFolder
from safetensors.torch import save_file

pytestmark = [pytest.mark.host, pytest.mark.slow]

RECORD = {"steps_taken": 3, "config": {"templates": "a {}"}, "versions": {"personalize": "0.1.0"}}


@pytest.fixture(scope="module")
def concepts(tiny_sd1):
    """A concept of each kind of content, which fits the tiny model."""
    word = torch.randn(2, 64)
    differences = {
        f"difference.{path}.attn2.to_{letter}": torch.randn_like(weight) * 0.01
        for path, pair in weights_of(tiny_sd1.model).items()
        for letter, weight in zip("kv", pair, strict=True)
    }
    first = next(iter(differences))
    factors = {f"{first}.up": torch.ones(len(differences[first]), 2), f"{first}.down": word}
    compressed = {name: t for name, t in differences.items() if name != first} | factors
    residuals = {f"residual.{n}.{part}": word for n in (0, 1) for part in ("key", "value")}
    encoder = random_encoder(tiny_sd1)
    known = {"name": encoder.name, "digest": encoder.digest, "vision": [32, 12, 16]}
    made = {
        methods.TEXTUAL_INVERSION: {"words": {"": word}},
        methods.CROSS_INIT: {"words": {"": word}},
        methods.CATVERSION: {"tensors": {**residuals, "logit_bias": torch.tensor(1.0)}},
        methods.CUSTOM_DIFFUSION: {"words": {"": word}, "tensors": differences},
        methods.DETEX: {"words": {"": word, "pose1": word[:1]}, "tensors": compressed},
        methods.ELITE: {
            "words": {"": word[:1]},
            "tensors": {"local": torch.randn(16, 64)},
            "training": RECORD | {"encoder": known},
            "encoder": encoder,
        },
    }
    return [
        Concept(method, "sd1", 64, "<me>", "dog", **{"training": RECORD} | parts)
        for method, parts in made.items()
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_concept_files(campaign, concepts, folder, tiny_sd1):
    originals = []
    for number, concept in enumerate(concepts):
        path = folder / f"{number}.safetensors"
        save_concept(concept, path, embed_encoder=concept.method is methods.ELITE)
        originals.append(path.read_bytes())
    path = folder / "case.safetensors"

    def try_one(rng: random.Random) -> None:
        path.write_bytes(changed(rng, rng.choice(originals)))
        told(lambda: read_card(path, "case"))
        told(lambda: files_of(path, "case"))
        concept = told(lambda: load_concept(path, "case"))
        if concept is not None:
            told(lambda: use(concept, tiny_sd1))
            told(lambda: save_concept(concept, folder / "again.safetensors"))

    campaign.run("concept files", try_one).check()


@torch.inference_mode()
def use(concept, tiny):
    strength = 1.0 if len(concept.placeholder) % 2 else 0.5
    _, clip = apply_concept(tiny.model, tiny.clip, concept, strength)
    tokens = clip.tokenize(f"a photo of {concept.placeholder} on the beach")
    encoded = clip.encode_from_tokens(tokens)
    assert torch.isfinite(encoded).all()


def test_files_of_other_programs(campaign, folder):
    word = torch.randn(2, 768)
    contents = [
        {"<cat-toy>": word},
        {"string_to_token": {"*": 265}, "string_to_param": {"*": word}, "name": "cat", "step": 9},
        {"clip_l": word},
        {"emb_params": word},
        {f"cat_v{n}": row for n, row in enumerate(word)},
        [{"cat": word}],
        {"x.self_prefix.control_trans": torch.randn(1, 6, 12, 64)},
        {"unet": {}, "modifier_token": {"<new1>": word[0]}},
    ]
    originals = []
    for zipped in (True, False):
        for content in contents:
            torch.save(content, folder / "one.pt", _use_new_zipfile_serialization=zipped)
            originals.append((".pt", (folder / "one.pt").read_bytes()))
    for content in contents[:1] + contents[2:4]:
        save_file(content, folder / "one.safetensors")
        originals.append((".safetensors", (folder / "one.safetensors").read_bytes()))
    (folder / "case").mkdir()

    def try_one(rng: random.Random) -> None:
        suffix, data = rng.choice(originals)
        path = folder / "case" / f"case{rng.choice([suffix, '.bin', '.safetensors'])}"
        path.write_bytes(changed(rng, data))
        try:
            card = told(lambda: read_card(path, path.name))
            told(lambda: files_of(path, path.name))
            concept = told(lambda: load_concept(path, path.name))
            if concept is not None:  # whose numbers may be wrong where the header is fine
                assert card is not None and card.placeholder == concept.placeholder
        finally:
            path.unlink()

    campaign.run("files of other programs", try_one).check()


def official_half(encoder, stage):
    """A mapper as its authors' program wrote it."""
    from personalize.concepts.elite import stage_tensors
    from personalize.concepts.elite_files import official_blocks

    names = {path: name for name, path in official_blocks().items()}
    tensors = {}
    for key, tensor in stage_tensors(stage).items():
        path, dot, rest = key.partition(".attn2.")
        known = path in names and dot
        tensors[f"{names[path]}_attn2_{rest}" if known else key] = tensor.clone()
    return tensors


def test_encoder_files(campaign, folder, tiny_sd1):
    encoder = random_encoder(tiny_sd1)
    save_encoder(encoder, folder / "ours.safetensors")
    ours = (folder / "ours.safetensors").read_bytes()
    torch.save(official_half(encoder, encoder.global_stage), folder / "one.pt")
    half = (folder / "one.pt").read_bytes()
    (folder / "case").mkdir()

    def try_one(rng: random.Random) -> None:
        suffix, data = rng.choice([(".safetensors", ours), (".pt", half)])
        path = folder / "case" / f"case{suffix}"
        path.write_bytes(changed(rng, data))
        other = folder / "one.pt" if suffix == ".pt" else None
        found = told(lambda: load_encoder_files(path, other))
        digest_in_file(path)
        told(lambda: find_encoder([path], encoder.digest))
        if found is not None and suffix == ".safetensors":
            # what differs in the description alone is another encoder, never other numbers
            same = found.global_stage.digest == encoder.global_stage.digest
            assert same or found.digest != encoder.digest
        path.unlink()

    campaign.run("encoder files", try_one).check()


def test_sam_files(campaign, folder):
    torch.save({}, folder / "empty.pth")
    save_sam(folder / "sam.pth")
    tensors = torch.load(folder / "sam.pth", weights_only=True)
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "sam.safetensors")
    originals = [(p.suffix, p.read_bytes()) for p in folder.glob("sam.*")]

    def try_one(rng: random.Random) -> None:
        suffix, data = rng.choice(originals)
        path = folder / f"case{suffix}"
        path.write_bytes(changed(rng, data))
        told(lambda: load_sam(path))

    campaign.run("SAM files", try_one).check()


def state(step: int) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    word = torch.randn(2, 64, generator=generator)
    moments = {"step": torch.tensor(float(step)), "exp_avg": word, "exp_avg_sq": word**2}
    losses = {"loss": [0.5] * step}
    return TrainState(step, {"word": word}, {"word": moments}, generator.get_state(), 1.0, losses)


def same(one: TrainState, other: TrainState) -> bool:
    mine, theirs = one.moments["word"], other.moments["word"]
    return (
        (one.step, one.losses, one.loss_scale) == (other.step, other.losses, other.loss_scale)
        and torch.equal(one.parameters["word"], other.parameters["word"])
        and torch.equal(one.generator, other.generator)
        and mine.keys() == theirs.keys()
        and all(torch.equal(moment, theirs[key]) for key, moment in mine.items())
    )


def test_state_files(campaign, folder: Path):
    keeper = StateFolder(folder, "key")
    for step in (2, 4):
        keeper.save(state(step))
    newest = max(keeper.folder.iterdir())
    whole = newest.read_bytes()

    def try_one(rng: random.Random) -> None:
        newest.write_bytes(damaged(rng, whole))
        found = keeper.latest(up_to=4)
        assert found is not None, "the state before was passed over, too"
        assert same(found, state(found.step)), "a damaged state was used"

    campaign.run("state files", try_one).check()
