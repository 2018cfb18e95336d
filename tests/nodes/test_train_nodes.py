"""Train nodes as the host runs them, and what each kind of bad input gets to read."""

from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.errors import (
    BaseModelError,
    PersonalizeError,
    PictureError,
    PlaceholderError,
    TrainingError,
)
from personalize.nodes import monitor
from personalize.nodes.live import LiveRuns
from personalize.nodes.train import (
    TrainCrossInit,
    TrainCustomDiffusion,
    TrainDETEX,
    TrainTextualInversion,
)
from personalize.nodes.train_node import TrainNode
from personalize.tests.elite_models import clip_vision
from personalize.tests.training.test_learn import sources
from personalize.training.cross_init import PRESETS
from personalize.training.learn import learn
from personalize.training.prior import SAMPLING
from personalize.training.textual_inversion import TextualInversionConfig
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def runs(monkeypatch):
    """The trainings of a test, as browsers may ask for them."""
    begun, live = [], LiveRuns()
    begin = live.begin

    def noted(run):
        begun.append(begin(run))
        return run

    monkeypatch.setattr(live, "begin", noted)
    monkeypatch.setattr(monitor, "LIVE", live)
    return begun


def picture(*shape):
    return torch.rand(shape or (1, 64, 64, 3), generator=torch.Generator().manual_seed(0))


def run(node, tiny, images=None, lists=None, **widgets):
    """Execute a Train node as the host does: every input is a list, under inference mode."""
    defaults = {
        name: entry[1]["default"]
        for group in node.INPUT_TYPES().values()
        for name, entry in group.items()
        if len(entry) > 1 and "default" in entry[1]
    }
    small = {"steps": 1, "batch_size": 1, "resolution": 64, "preview_every": 0, "resume": False}
    small |= {"preset": "custom", "zoom": False}
    small = {name: value for name, value in small.items() if name in defaults}
    sockets = {"model": tiny.model, "clip": tiny.clip, "vae": tiny.vae}
    values = {name: [v] for name, v in (sockets | defaults | small | widgets).items()}
    with torch.inference_mode():
        clone = node.PREPARE_CLASS_CLONE(None)
        output = clone.EXECUTE_NORMALIZED(images=images or [picture()], **values | (lists or {}))
    assert output.result is not None
    return output.result


@pytest.mark.parametrize(
    ("node", "method", "rows", "placeholder"),
    [
        (TrainTextualInversion, methods.TEXTUAL_INVERSION, 1, "<my-dog>"),
        (TrainCrossInit, methods.CROSS_INIT, 2, "<me>"),
    ],
)
@pytest.mark.parametrize("kind", ["tiny_sd1", "tiny_sd2", "tiny_sd2v"])
def test_a_train_node_gives_a_concept_and_its_losses(
    node, method, rows, placeholder, kind, request
):
    tiny = request.getfixturevalue(kind)
    images = [picture(), picture(2, 80, 100, 3), picture(1, 64, 64, 4)]
    concept, losses = run(node, tiny, images, steps=3)
    assert (concept.method, concept.placeholder) == (method, placeholder)
    assert concept.words[""].shape == (rows, concept.text_width)
    assert len(losses["loss"]) == 3
    assert concept.pictures.shape == (4, 192, 192, 3) and concept.pictures.dtype == torch.uint8
    assert concept.words[""].device.type == "cpu" and not concept.words[""].is_inference()


@pytest.mark.parametrize(
    ("node", "sockets", "prompts", "names"),
    [
        (TrainCustomDiffusion, {}, ["a photo of <my-dog>"], [""]),
        (
            TrainDETEX,
            {"clip_vision": True, "masks": [torch.ones(64, 64)]},
            [
                "a photo of <my-dog>",
                "photo of a <my-dog> with <my-dog:pose1> pose in <my-dog:background1> background",
            ],
            ["", "pose1", "background1"],
        ),
    ],
)
def test_nodes_that_preserve_the_class(node, sockets, prompts, names, tiny_sd1, runs):
    """The previews of DETEX show the subject alone, and with pose and background of a picture."""
    lists = {"prior_images": [picture(2, 64, 80, 3)]} | sockets
    if "clip_vision" in lists:
        lists["clip_vision"] = [clip_vision()]
    concept, losses = run(node, tiny_sd1, lists=lists, steps=2, preview_every=2)
    assert list(concept.words) == names and len(losses["loss"]) == 2
    (shown,) = runs
    assert list(shown.prompts) == prompts and list(shown.previews) == [2]
    assert [Image.open(BytesIO(jpeg)).size for jpeg in shown.previews[2]] == [(64, 64)] * len(
        prompts
    )


def test_several_prompts_are_previewed_each(tiny_sd1, runs):
    prompts = "a photo of {} {class}\n\n  {} on the beach \n"
    run(TrainCrossInit, tiny_sd1, steps=2, preview_every=1, preview_prompt=prompts)
    (shown,) = runs
    assert list(shown.prompts) == ["a photo of <me> person", "<me> on the beach"]
    assert [len(jpegs) for jpegs in shown.previews.values()] == [2, 2]


def test_pictures_of_the_class_are_made_in_the_node(tiny_sd1, monkeypatch, host_base, runs):
    monkeypatch.setitem(SAMPLING, "steps", 1)
    notes = []
    monkeypatch.setattr(monitor, "tell_browsers", lambda _, news: notes.append(news["note"]))
    run(TrainCustomDiffusion, tiny_sd1, prior_count=5, train_seed=77)
    assert {"key": "encoding", "values": {}} in notes and notes[-1] is None
    assert any(note and note["key"] == "making_prior" for note in notes)
    assert set(runs[0].losses) == {"loss", "denoising", "prior"}
    assert len(list((host_base / "output" / "personalize" / "prior").glob("*/*.png"))) == 8


@pytest.mark.parametrize("node", TrainNode.__subclasses__())
def test_a_preset_sets_inputs_of_its_node_and_fits_them(node):
    """Every value is one that the widget could hold, and the config takes them."""
    inputs = {one.id: one for one in node.GET_SCHEMA().inputs}
    required = {"placeholder": "<me>", "class_word": "dog", "init_word": "dog"}
    for name, values in node.presets.items():
        for key, value in values.items():
            one = inputs[key]
            assert type(value) is type(getattr(one.default, "value", one.default)), (name, key)
            assert getattr(one, "min", None) is None or one.min <= value <= one.max
        config = node.make_config({**required, "preset": name})
        assert {key: getattr(config, key) for key in values} == values


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_steps_and_learning_rate(preset):
    values = {"placeholder": "<me>", "steps": 7, "learning_rate": 0.1}
    chosen = TrainCrossInit.make_config({**values, "preset": preset})
    assert (chosen.steps, chosen.learning_rate) == (
        PRESETS[preset].steps,
        PRESETS[preset].learning_rate,
    )
    assert TrainCrossInit.make_config({**values, "preset": "custom"}).steps == 7
    assert TrainCrossInit.make_config(values).learning_rate == 0.1


@pytest.mark.parametrize("node", [TrainCrossInit, TrainTextualInversion])
def test_the_preset_for_sdxl(node):
    values = {"placeholder": "<me>", "init_word": "dog", "steps": 7, "batch_size": 2}
    chosen = node.make_config({**values, "preset": "sdxl"})
    assert (chosen.steps, chosen.batch_size, chosen.learning_rate) == (400, 4, 0.02)
    assert node.make_config({**values, "preset": "custom"}).batch_size == 2
    assert getattr(chosen, "reg_weight", 1e-5) == 1e-5


def test_a_cancel_takes_effect_at_the_step_that_is_under_way(tiny_sd1, monkeypatch, host_base):
    from comfy import model_management
    from personalize.nodes.live import LiveRun

    record, steps = LiveRun.record, []

    def cancelled_in_the_second(self, step, *values):
        steps.append(step)
        model_management.interrupt_current_processing(step == 2)
        record(self, step, *values)

    monkeypatch.setattr(LiveRun, "record", cancelled_in_the_second)
    with pytest.raises(model_management.InterruptProcessingException):
        run(TrainCrossInit, tiny_sd1, steps=9, train_seed=92)
    assert steps == [1, 2]
    kept = (host_base / "output" / "personalize" / "training").glob("*/step_000002.safetensors")
    assert list(kept)


def test_a_cancel_during_a_preview_takes_effect_at_once_and_keeps_the_step(
    tiny_sd1, monkeypatch, host_base
):
    from comfy import model_management, sample

    model_calls = []
    stock = sample.sample

    def cancelled(*args, callback, **kwargs):
        def on_step(*state):
            model_calls.append(state[0])
            model_management.interrupt_current_processing(True)
            callback(*state)

        return stock(*args, callback=on_step, **kwargs)

    monkeypatch.setattr(sample, "sample", cancelled)
    with pytest.raises(model_management.InterruptProcessingException):
        run(TrainCrossInit, tiny_sd1, steps=3, preview_every=1, train_seed=91)
    monkeypatch.undo()
    assert model_calls == [0]
    states = (host_base / "output" / "personalize" / "training").glob("*/step_000001.safetensors")
    assert list(states)
    resumed, _ = run(TrainCrossInit, tiny_sd1, steps=3, train_seed=91, resume=True)
    whole, _ = run(TrainCrossInit, tiny_sd1, steps=3, train_seed=91)
    assert torch.equal(resumed.words[""], whole.words[""])


BAD_IMAGES = {
    "none": ([torch.zeros(0, 64, 64, 3)], "no picture to learn from. Connect 1 to 6"),
    "a mask": ([torch.ones(1, 64, 64)], r"got \(1, 64, 64\). Is it a mask\? Connect an IMAGE"),
    "a latent": ([torch.ones(1, 4, 8, 8)], r"Expected pictures of shape.*got \(1, 4, 8, 8\)"),
    "small": ([picture(), picture(1, 63, 200, 3)], "Picture 2 has 200 x 63.*at least 64 x 64"),
    "one pixel": ([picture(1, 1, 1, 3)], "Picture 1 has 1 x 1 pixels.*remove it or find"),
    "NaN": ([torch.full((1, 64, 64, 3), float("nan"))], "Picture 1 holds NaN.*load the picture"),
    "infinite": ([picture(), picture() / 0], "Picture 2 holds NaN or infinite"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_pictures(case, tiny_sd1):
    images, message = BAD_IMAGES[case]
    with pytest.raises(PictureError, match=message):
        run(TrainCrossInit, tiny_sd1, images)


def test_no_picture_at_all(tiny_sd1):
    config = TextualInversionConfig(placeholder="<x>", init_word="dog", steps=1, resolution=64)
    with pytest.raises(PictureError, match="no picture to learn from"):
        learn(config, sources(tiny_sd1, []))


@pytest.mark.parametrize("node", [TrainTextualInversion, TrainCrossInit])
@pytest.mark.parametrize(
    ("placeholder", "message"),
    [
        ("", "placeholder is empty. Write a name in angle brackets"),
        ("<my dog>", "has white space in it"),
        ("dog", "is an ordinary word.*Use <dog> instead"),
        ("<my:dog>", "cannot stand in a prompt"),
    ],
)
def test_bad_placeholders(node, placeholder, message, tiny_sd1):
    with pytest.raises(PlaceholderError, match=message):
        run(node, tiny_sd1, placeholder=placeholder)


BAD_WIDGETS = [
    (TrainTextualInversion, {"init_word": " "}, "init_word is empty. Write what the subject is"),
    (TrainTextualInversion, {"init_word": "teddy bear"}, "is 2 tokens.*set vectors to 2 or more"),
    (TrainTextualInversion, {"vectors": 0}, "Expected 1 to 74 vectors, got 0"),
    (TrainTextualInversion, {"vectors": 76}, "Expected 1 to 74 vectors, got 76"),
    (TrainCrossInit, {"class_word": ""}, "class_word is empty. Write what the subject is"),
    (TrainCrossInit, {"class_word": "very " * 80}, "one chunk holds 75.*shorter"),
    (TrainCrossInit, {"steps": 0}, "at least 1 step"),
    (TrainCrossInit, {"batch_size": 0}, "1 picture a batch"),
    (TrainCrossInit, {"learning_rate": 0.0}, "learning_rate above 0, got 0.0. 0.005 is usual"),
    (TrainCrossInit, {"resolution": 65}, "resolution of at least 64 that 8 divides, got 65"),
    (TrainCrossInit, {"reg_weight": -1.0}, "reg_weight of 0 or more, got -1.0"),
    (TrainCrossInit, {"templates": "a photo"}, "'a photo' has 0 places.*Write one {}"),
    (TrainCrossInit, {"templates": "a {} with {}"}, "has 2 places for the subject"),
]


@pytest.mark.parametrize(("node", "widgets", "message"), BAD_WIDGETS)
def test_settings_that_cannot_work(node, widgets, message, tiny_sd1):
    with pytest.raises(TrainingError, match=message):
        run(node, tiny_sd1, **widgets)


def test_a_class_word_of_several_tokens_is_fine_for_cross_initialization(tiny_sd1):
    concept = run(TrainCrossInit, tiny_sd1, class_word="teddy bear", init_from="class word")[0]
    assert concept.class_word == "teddy bear" and concept.words[""].shape == (2, 64)


def flux():
    from comfy import supported_models

    config = object.__new__(supported_models.Flux)
    return model_of(config)


def model_of(config):
    return SimpleNamespace(
        model=SimpleNamespace(model_config=config), clone=None, load_device=torch.device("cpu")
    )


def t5_clip(tiny):
    from comfy.text_encoders.flux import FluxTokenizer

    other = tiny.clip.clone()
    other.tokenizer = FluxTokenizer()
    return other


def other_vae(**more):
    return SimpleNamespace(encode=None, decode=None, **more)


def test_models_that_cannot_learn(tiny_sd1, tiny_sd2):
    with pytest.raises(BaseModelError, match="MODEL is a Flux. Expected a Stable Diffusion 1.x,"):
        run(TrainCrossInit, tiny_sd1, model=flux())
    with pytest.raises(BaseModelError, match="FluxTokenizer. Expected the CLIP of a Stable Diffus"):
        run(TrainCrossInit, tiny_sd1, clip=t5_clip(tiny_sd1))
    with pytest.raises(PersonalizeError, match="a CLIP at clip, got nothing.*whole checkpoint"):
        run(TrainCrossInit, tiny_sd1, clip=None)
    with pytest.raises(BaseModelError, match="MODEL is .*2.x.*CLIP is .*1.x.*from one checkpoint"):
        run(TrainCrossInit, tiny_sd1, model=tiny_sd2.model)
    with pytest.raises(BaseModelError, match="VAE has .* latent channels.*take the one of your"):
        run(TrainCrossInit, tiny_sd1, vae=other_vae(latent_channels=16))
    with pytest.raises(BaseModelError, match="VAE has None latent channels.*take the one of your"):
        run(TrainCrossInit, tiny_sd1, vae=other_vae())
    with pytest.raises(PersonalizeError, match="a VAE at vae, got nothing.*whole checkpoint"):
        run(TrainCrossInit, tiny_sd1, vae=None)


def test_an_inpainting_model_cannot_learn(tiny_sd1):
    kind = type(tiny_sd1.model.model.model_config)
    config = kind({**tiny_sd1.model.model.model_config.unet_config, "in_channels": 9})
    with pytest.raises(BaseModelError, match="inpainting.*Learn the concept on the plain model"):
        run(TrainCrossInit, tiny_sd1, model=model_of(config))
