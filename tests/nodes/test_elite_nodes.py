"""ELITE from the files to the picture, each node as the host runs it."""

import pytest
import torch
from personalize.concepts import elite_files
from personalize.concepts.elite_files import save_encoder
from personalize.concepts.errors import ConceptFileError
from personalize.host.folders import concepts_output, elite_output
from personalize.nodes.concept import ApplyConcept, LoadConcept, SaveConcept
from personalize.nodes.elite import SAME_FILE, EncodeELITE, LoadELITE, SaveELITE
from personalize.tests.elite_models import clip_vision, random_encoder

pytestmark = pytest.mark.host


def run(node, **inputs):
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs)


def result(node, **inputs):
    return run(node, **inputs).result


def choices(name):
    return LoadELITE.INPUT_TYPES()["required"][name][1]["options"]


@pytest.fixture(scope="module")
def saved(tiny_sd1):
    """Name of an encoder's file, as Save ELITE Encoder wrote it."""
    encoder = random_encoder(tiny_sd1)
    first, second = (
        run(SaveELITE, elite=encoder, filename="study/tiny").ui["encoders"][0] for _ in range(2)
    )
    assert first == str(elite_output() / "study" / "tiny.safetensors") != second
    return "study/tiny.safetensors"


def load(name, local=SAME_FILE):
    return result(LoadELITE, global_mapper=name, local_mapper=local)[0]


def test_from_the_encoders_file_to_the_picture(tiny_sd1, saved):
    from nodes import CLIPTextEncode, KSampler

    assert saved in choices("global_mapper") and choices("local_mapper")[0] == SAME_FILE
    picture = torch.rand(1, 60, 60, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 60, 60)
    (concept,) = result(
        EncodeELITE, elite=load(saved), clip_vision=clip_vision(), image=picture,
        placeholder="<rex>", mask=mask, class_word="dog",
    )  # fmt: skip
    run(SaveConcept, concept=concept, filename="rex", also_as_embedding=False)
    (loaded,) = result(LoadConcept, concept_name="rex.safetensors", placeholder="<cup>")
    assert loaded.encoder.digest == concept.encoder.digest
    again = result(LoadConcept, concept_name="rex.safetensors")[0]
    assert again.encoder is loaded.encoder

    def draw(concept, prompt, **changes):
        inputs = {"strength": 1.0, "local_strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}
        model, clip = result(
            ApplyConcept, model=tiny_sd1.model, clip=tiny_sd1.clip, concept=concept,
            **inputs | changes,
        )  # fmt: skip
        with torch.inference_mode():
            positive, negative = (CLIPTextEncode().encode(clip, p)[0] for p in (prompt, ""))
            latent = {"samples": torch.zeros(1, 4, 8, 8)}
            (out,) = KSampler().sample(
                model, 0, 4, 3.0, "euler", "normal", positive, negative, latent
            )
        return out["samples"]

    fresh, later = draw(concept, "a <rex>, sitting"), draw(loaded, "a <cup>, sitting")
    assert torch.equal(fresh, later)
    assert not torch.equal(fresh, draw(concept, "a <rex>, sitting", local_strength=0.0))
    assert not torch.equal(fresh, draw(concept, "a <rex>, sitting", end_percent=0.5))
    with_class = draw(concept, "a <rex>, sitting", strength=0.0)
    assert not torch.equal(fresh, with_class)
    with torch.inference_mode():
        positive, negative = (
            CLIPTextEncode().encode(tiny_sd1.clip, p)[0] for p in ("a dog, sitting", "")
        )
        stock = KSampler().sample(
            tiny_sd1.model, 0, 4, 3.0, "euler", "normal", positive, negative,
            {"samples": torch.zeros(1, 4, 8, 8)},
        )[0]["samples"]  # fmt: skip
    assert torch.equal(with_class, stock)


def test_a_concept_without_its_encoder_says_which(tiny_sd1):
    from personalize.training.elite.encoding import encode_elite

    encoder = random_encoder(tiny_sd1, seed=40)
    concept = encode_elite(
        encoder, clip_vision(), torch.rand(1, 56, 56, 3), None, placeholder="<lost>"
    )
    run(SaveConcept, concept=concept, filename="lost", also_as_embedding=False)
    says = rf"'random-40' \(digest {encoder.digest[:12]}\), which is missing. Looked in .*elite"
    with pytest.raises(ConceptFileError, match=says):
        run(LoadConcept, concept_name="lost.safetensors")
    save_encoder(encoder, elite_output() / "found.safetensors")
    (loaded,) = result(LoadConcept, concept_name="lost.safetensors")
    assert loaded.encoder.name == "random-40"
    assert (concepts_output() / "lost.safetensors").stat().st_size < 20_000


def test_the_picture_that_is_not_square(saved, monkeypatch):
    from personalize.nodes.elite import NodeProgress

    shown = []
    monkeypatch.setattr(NodeProgress, "show_text", lambda self, text: shown.append(text))
    elite, vision = load(saved), clip_vision()
    for shape in ((1, 60, 60, 3), (1, 60, 90, 3)):
        run(EncodeELITE, elite=elite, clip_vision=vision, image=torch.rand(shape),
            placeholder="<rex>")  # fmt: skip
    (line,) = shown
    assert "(90x60) was squeezed to a square" in line


def test_load_notices_a_changed_file_and_refuses_bad_choices(saved, tiny_sd1):
    first = LoadELITE.fingerprint_inputs(saved, SAME_FILE)
    assert first == LoadELITE.fingerprint_inputs(saved, SAME_FILE)
    with pytest.raises(ConceptFileError, match="no ELITE encoder 'gone.pt'. Looked in .*press R"):
        run(LoadELITE, global_mapper="gone.pt", local_mapper=SAME_FILE)
    half = elite_output() / "global_mapper.pt"
    torch.save({}, half)
    assert "global_mapper.pt" in choices("local_mapper")
    with pytest.raises(ConceptFileError, match="lacks 100 tensors"):
        load("global_mapper.pt")
    half.unlink()
    assert elite_files.ENCODER_FORMAT == "personalize-elite/1"


def test_a_concept_with_its_encoder_needs_no_other_file(tiny_sd1, tmp_path):
    from personalize.concepts.files import load_concept
    from personalize.samplers.apply import apply_concept
    from personalize.tests.elite_sampling import PROMPT, conditioning, sample
    from personalize.training.elite.encoding import encode_elite

    encoder = random_encoder(tiny_sd1, seed=50)
    picture = torch.rand(1, 56, 56, 3, generator=torch.Generator().manual_seed(0))
    concept = encode_elite(encoder, clip_vision(), picture, None, placeholder="<rex>")
    saved = run(SaveConcept, concept=concept, filename="whole", also_as_embedding=False,
                embed_encoder=True)  # fmt: skip
    (loaded,) = result(LoadConcept, concept_name="whole.safetensors")
    assert loaded.encoder.digest == encoder.digest and loaded.encoder.name == "random-50"
    assert loaded.encoder.vision == encoder.vision and set(loaded.tensors) == {"local"}

    def draw(concept):
        model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
        return sample(model, conditioning(clip, PROMPT), conditioning(clip, ""), steps=2)

    assert torch.equal(draw(loaded), draw(concept))
    # beside a concept of the same encoder, read from its own file
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, loaded)
    apply_concept(model, clip, concept.renamed("<cup>"))
    # no more than the projections, in their own type
    path = concepts_output() / "whole.safetensors"
    assert saved.ui["concepts"] == [str(path)]
    stages = encoder.global_stage, encoder.local_stage
    weights = [w for stage in stages for pair in stage.projections.values() for w in pair]
    size = sum(w.nbytes for w in weights)
    assert size < path.stat().st_size < size + 20_000
    assert load_concept(path).encoder.local_stage is not None


def test_an_encoder_that_cannot_be_embedded_or_read(tiny_sd1, tmp_path):
    from dataclasses import replace

    from personalize.concepts.files import load_concept, save_concept
    from personalize.tests.stock import make_concept
    from personalize.training.elite.encoding import encode_elite
    from safetensors import safe_open
    from safetensors.torch import save_file

    with pytest.raises(ConceptFileError, match="Textual Inversion concept without an encoder"):
        save_concept(make_concept(tiny_sd1), tmp_path / "word.safetensors", embed_encoder=True)
    encoder = random_encoder(tiny_sd1, seed=51)
    concept = encode_elite(
        encoder, clip_vision(), torch.rand(1, 56, 56, 3), None, placeholder="<rex>"
    )
    words_only = replace(concept, encoder=replace(encoder, local_stage=None))
    path = tmp_path / "c.safetensors"
    save_concept(words_only, path, embed_encoder=True)
    assert load_concept(path).encoder.local_stage is None
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    del metadata["sha256"], metadata["checked_by"]  # the files are changed on purpose
    half = {
        k: t
        for k, t in tensors.items()
        if "middle_block.1.transformer_blocks.0.attn2.to_v" not in k
    }
    for kept, said, says in (
        (half, metadata, "lacks the key or value projection of middle_block"),
        (tensors, metadata | {"training": "{}"}, "lacks or garbles 'encoder'"),
    ):
        save_file(kept, path, said)
        with pytest.raises(ConceptFileError, match=says):
            load_concept(path)


def test_a_concept_is_loaded_again_when_its_encoders_file_changes(tiny_sd1):
    from personalize.concepts.elite_files import load_encoder
    from personalize.training.elite.encoding import encode_elite

    encoder = random_encoder(tiny_sd1, seed=52)
    (saved,) = run(SaveELITE, elite=encoder, filename="changing").ui["encoders"]
    picture = torch.rand(1, 56, 56, 3)
    concept = encode_elite(load_encoder(saved), clip_vision(), picture, None, placeholder="<rex>")
    run(SaveConcept, concept=concept, filename="drawn", also_as_embedding=False)
    fingerprint = LoadConcept.fingerprint_inputs
    before = fingerprint("drawn.safetensors")
    assert fingerprint("drawn.safetensors") == before
    (loaded,) = result(LoadConcept, concept_name="drawn.safetensors")
    local = loaded.encoder.local_stage.projections
    kept = {path: (k.clone(), v.clone()) for path, (k, v) in local.items()}
    with open(saved, "r+b") as file:  # in place, as cp does
        file.truncate(1000)
    assert fingerprint("drawn.safetensors") != before
    assert all(torch.equal(k, local[p][0]) and torch.equal(v, local[p][1])
               for p, (k, v) in kept.items())  # fmt: skip
    with pytest.raises(ConceptFileError, match="drawn with the encoder 'random-52'.*is missing"):
        result(LoadConcept, concept_name="drawn.safetensors")
