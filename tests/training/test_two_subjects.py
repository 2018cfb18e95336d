"""Custom Diffusion of two subjects at once: what a step sees, parity, the concept and its file."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts.cards import card_of
from personalize.concepts.differences import weight_differences
from personalize.concepts.errors import ConceptFileError, PictureError, TrainingError
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.lora import written_with_embeddings
from personalize.evaluation.prompts import plain_prompt
from personalize.host.backbone import Backbone
from personalize.nodes.train import TrainCustomDiffusion
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import close, here
from personalize.tests.nodes.test_train_nodes import run
from personalize.tests.stock import assert_differ, assert_same, encode
from personalize.tests.test_custom_diffusion import (
    LATENTS,
    cd,
    no_cd_pictures,
    projections_of,
    same_concept,
)
from personalize.tests.training.test_learn import Stop, sources, stop_after, train
from personalize.tests.training.test_parity import (
    drawn,
    make_batch,
    relative,
    shape_of,
    tokenizer_folder,
)
from personalize.training.batch import Batch, joined, parts_of
from personalize.training.custom_diffusion import CustomDiffusion
from personalize.training.preservation import BatchWithPrior

pytestmark = pytest.mark.host


def noise(*shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def material():
    """Three dogs and two cats, and others of their classes."""
    return {
        "pictures": [noise(3, 64, 64, 3, seed=1)],
        "second_images": [noise(2, 64, 64, 3, seed=2)],
        "prior_images": [noise(3, 64, 64, 3, seed=3)],
        "second_prior_images": [noise(2, 64, 64, 3, seed=4)],
    }


def two(**changes):
    return cd(second_class_word="wooden pot", **changes)


@pytest.fixture(scope="module")
def concept(tiny_sd1, material):
    return train(tiny_sd1, two(learning_rate=5e-3), **material).concept


def opened(tiny, config, material):
    """A learner of prepared pictures, and its backbone."""
    backbone = Backbone(tiny.model, tiny.clip)
    with torch.inference_mode():
        pictures = CustomDiffusion.prepare(config, sources(tiny, **material), backbone)
    with backbone.session(LATENTS):
        return CustomDiffusion(config, backbone, pictures), backbone


def prompts_of(learner, backbone, batch):
    """The text of each row's prompt, a learned word as its number."""
    table, text = learner.table, backbone.text
    words = {text.tokenize(w)[0]: w for w in ("photo", "of", "a", "dog", "wooden", "pot", "small")}
    rows = []
    for row in learner.prompt_rows(batch.to(backbone.device)).tolist():
        end = int(table.ends[row])
        pairs = zip(table.ids[row, 1:end].tolist(), table.slots[row, 1:end].tolist(), strict=True)
        rows.append(" ".join(
            f"<{slot}>" if slot >= 0 else words.get(tuple(ids), words.get(ids[0], "?"))
            for ids, slot in pairs
        ))  # fmt: skip
    return rows


@pytest.mark.parametrize(("size", "halves"), [(6, {3}), (3, {1, 2}), (1, {0, 1})])
def test_a_step_sees_as_much_of_each(tiny_sd1, material, size, halves):
    learner, backbone = opened(tiny_sd1, two(batch_size=size), material)
    generator, seen, firsts = torch.Generator().manual_seed(0), set(), set()
    for _ in range(12):
        batch = learner.draw(backbone, generator)
        of_second = batch.index >= 3
        assert len(batch) == size and len(batch.prior) == size
        assert torch.equal(batch.prior.prompt, of_second.long())
        assert prompts_of(learner, backbone, batch) == [
            "photo of a <1> wooden pot" if second else "photo of a <0> dog" for second in of_second
        ]
        firsts.add(int(of_second.sum()))
        seen |= set(batch.index.tolist())
    assert firsts == halves and seen == set(range(5))


def test_zoomed_pictures_keep_their_subject(tiny_sd1, material):
    learner, backbone = opened(tiny_sd1, two(batch_size=40, zoom=True), material)
    batch = learner.draw(backbone, torch.Generator().manual_seed(0))
    prompts = prompts_of(learner, backbone, batch)
    assert len(batch.visible) == 40 and any("small" in prompt for prompt in prompts[20:])
    assert all("<0> dog" in p for p in prompts[:20]) and all(
        "<1> wooden" in p for p in prompts[20:]
    )


def test_a_caption_is_of_the_first_subject(tiny_sd1, material):
    material = material | {"captions": ["a small dog", "", ""]}
    learner, backbone = opened(tiny_sd1, two(batch_size=2), material)
    batch = replace(make_batch(prompt=(0, 1)), index=torch.tensor([0, 3]))
    shown = prompts_of(learner, backbone, batch)
    assert shown == ["a small <0> dog", "photo of a <1> wooden pot"]


def test_gradients_equal_diffusers(every_tiny):
    """A batch of both subjects and both classes, as the published programs join them."""
    from personalize.tests.training import reference as plain

    tiny = every_tiny
    reference = plain.reference(tiny.path, shape_of(tiny.kind), tokenizer_folder(), words=2)
    config = two(prior_weight=0.7, first_token=True)
    batch = BatchWithPrior(
        **vars(make_batch(prompt=(0, 1))), prior=make_batch(prompt=(0, 1), seed=9)
    )
    pictures = replace(no_cd_pictures(), second=no_cd_pictures())
    backbone = Backbone(tiny.model, tiny.clip)
    with backbone.session(LATENTS):
        learner = CustomDiffusion(config, backbone, pictures)
        theirs = projections_of(reference.unet, learner.projections.parameters)
        terms = learner.loss(backbone, batch)
        parameters = learner.parameters
        gradients = torch.autograd.grad(sum(terms.values()), list(parameters.values()))
    words = here(learner.words.detach()).clone().requires_grad_()
    assert not torch.equal(words[0], words[1])  # "ucd" and "pll"
    subjects, classes = (
        ["photo of a <v0> dog", "photo of a <v1> wooden pot"],
        ["photo of a dog", "photo of a wooden pot"],
    )
    loss = reference.loss(words, subjects, *drawn(batch))
    loss = loss + 0.7 * reference.loss(words, classes, *drawn(batch.prior))
    expected = torch.autograd.grad(loss, [words, *theirs.values()])
    by_name = dict(zip(["words", *theirs], expected, strict=True))
    for name, gradient in zip(parameters, gradients, strict=True):
        assert relative(gradient, by_name[name]) < 1e-4, name
    assert all(gradients[0].norm(dim=1) > 1e-4)


def test_stops_and_resumes_bit_equal(tiny_sd1, material, tmp_path):
    config = two(steps=4, save_every=2)
    whole = train(tiny_sd1, config, **material)
    with pytest.raises(Stop):
        train(tiny_sd1, config, on_step=stop_after(3), states=tmp_path, **material)
    seen = []
    note = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny_sd1, config, on_step=note, states=tmp_path, resume=True, **material)
    assert seen == [4] and same_concept(whole.concept, resumed.concept)
    train(  # another second subject is another training
        tiny_sd1, config, on_step=note, states=tmp_path, resume=True,
        **material | {"second_images": [noise(1, 64, 64, 3, seed=7)]},
    )  # fmt: skip
    assert seen == [4, 1, 2, 3, 4]


def test_its_file_has_two_words_and_their_class_words(concept, tmp_path):
    assert {name: w.shape[0] for name, w in concept.words.items()} == {"": 1, "second": 1}
    assert not torch.equal(concept.words[""], concept.words["second"])
    path = tmp_path / "both.safetensors"
    save_concept(concept, path)
    loaded = load_concept(path)
    assert same_concept(concept, loaded)
    assert loaded.class_words == {"second": "wooden pot"}
    assert card_of(loaded).attributes == ("<my-dog:second>",)
    assert len(concept.pictures) == 5


def test_prompts_name_both(tiny_sd1, concept):
    model, clip = tiny_sd1.model, tiny_sd1.clip
    _, both = apply_concept(model, clip, concept)
    text = "photo of a {} beside a {}"
    names = text.format("<my-dog>", "<my-dog:second>")
    plain = replace(concept, class_word="", class_words={})
    _, words_alone = apply_concept(model, clip, plain)
    assert_same(
        encode(both, names),
        encode(words_alone, text.format("<my-dog> dog", "<my-dog:second> wooden pot")),
    )
    none, stock = apply_concept(model, clip, concept, 0.0)
    stocks = encode(clip, text.format("dog", "wooden pot"))
    assert none is model
    assert_same(encode(stock, names), stocks)
    _, half = apply_concept(model, clip, concept, 0.5)
    blended = (encode(both, names)[0] + stocks[0]) / 2
    assert close(encode(half, names)[0], blended)
    assert_differ(encode(both, names), stocks)


def test_other_programs_and_judges_are_told_the_class_words(concept):
    names = {"": "dog", "second": "dog-second"}
    assert written_with_embeddings(concept, names) == {
        "": "embedding:dog dog", "second": "embedding:dog-second wooden pot",
    }  # fmt: skip
    prompt = "a <my-dog> on <my-dog:second> and <my-dog:second> wooden pot"
    plain = plain_prompt(prompt, "dog", "<my-dog>", concept.class_words)
    assert plain == "a dog on wooden pot and wooden pot"


def test_the_node_learns_both(tiny_sd1, material):
    lists = {k: v for k, v in material.items() if k != "pictures"}
    concept, _ = run(
        TrainCustomDiffusion, tiny_sd1, material["pictures"], lists,
        second_class_word="wooden pot", second_name="pot", batch_size=2,
    )  # fmt: skip
    assert list(concept.words) == ["", "pot"] and concept.class_words == {"pot": "wooden pot"}
    assert weight_differences(concept)
    values = {"placeholder": "<my-dog>", "second_name": "pot", "preview_prompt": "{}"}
    shown = TrainCustomDiffusion.preview_prompts(values | {"second_images": [1]})
    assert shown == ["{}", "a photo of {} and <my-dog:pot>"]
    assert TrainCustomDiffusion.preview_prompts(values) == ["{}"]


@pytest.mark.parametrize(
    ("changes", "given", "error", "message"),
    [
        ({"second_class_word": " "}, {}, TrainingError, "second_class_word is empty"),
        ({"second_init_word": "ktn"}, {}, TrainingError, "'ktn' is 2 tokens"),
        (
            {}, {"second_images": [torch.rand(1, 64, 20, 3)]},
            PictureError, "Picture of the second subject 1 has 20 x 64",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused(tiny_sd1, material, changes, given, error, message):
    with pytest.raises(error, match=message):
        train(tiny_sd1, replace(two(), **changes), **material | given)


def test_a_name_that_no_prompt_can_have_is_refused():
    with pytest.raises(ConceptFileError, match="'My pot' is no name for an attribute"):
        two(second_name="My pot")


def test_joined_batches_part_again():
    def batch(first, count):
        rows = torch.arange(first, first + count)
        return Batch(x0=rows, noise=rows, t=rows, index=rows, prompt=rows)

    one = BatchWithPrior(**vars(batch(0, 2)), prior=batch(10, 2))
    whole = joined([one, BatchWithPrior(**vars(batch(2, 1)), prior=batch(12, 1))])
    assert whole.t.tolist() == [0, 1, 2] and whole.prior.t.tolist() == [10, 11, 12]
    assert whole.visible is None and joined([one]) is one
    parts = [part.prior.t.tolist() for part, _ in parts_of(whole, 2)]
    assert parts == [[10], [11, 12]]
