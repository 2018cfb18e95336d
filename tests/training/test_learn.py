"""The loop: what it learns, that it can be stopped and resumed, and that it touches nothing."""

import errno
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.errors import (
    BaseModelError,
    PictureError,
    PlaceholderError,
    TrainingError,
)
from personalize.concepts.files import save_concept
from personalize.host.bases.host_base import HostBase
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import here
from personalize.tests.stock import text_lora
from personalize.training import loop, states
from personalize.training.cross_init import CrossInitConfig
from personalize.training.learn import learn
from personalize.training.loop import LossScale
from personalize.training.sources import Sources
from personalize.training.states import KEPT_STATES, StateFolder
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(1)
    shapes = [(1, 70, 80, 3), (2, 64, 64, 3)]
    return [torch.rand(shape, generator=generator) for shape in shapes]


def ti(**changes):
    settings = {"init_word": "dog", "steps": 4, "batch_size": 2, "resolution": 64}
    return TextualInversionConfig(placeholder="<my-dog>", **settings | changes)


def ci(**changes):
    settings = {"steps": 4, "batch_size": 2, "resolution": 64}
    return CrossInitConfig(placeholder="<me>", **settings | changes)


def sources(tiny, pictures, **others):
    models = {"model": tiny.model, "clip": tiny.clip, "vae": tiny.vae}
    return Sources(images=pictures, **models | others)


def train(tiny, config, pictures, on_step=lambda report: None, states=None, resume=False, **others):
    """others: what a method learns from besides pictures"""
    with torch.inference_mode():  # as a node runs
        return learn(
            config, sources(tiny, pictures, **others),
            on_step=on_step, states=states, resume=resume,
        )  # fmt: skip


def words(learned):
    return learned.concept.words[""]


@pytest.mark.parametrize(
    ("config", "method", "shape"),
    [
        (ti(vectors=3, init_word="teddy bear"), methods.TEXTUAL_INVERSION, 3),
        (ci(), methods.CROSS_INIT, 2),
        (
            ci(init_from="class word", class_word="dog", regulariser="squared"),
            methods.CROSS_INIT,
            2,
        ),
        (ci(init_from="class word", class_word="a blue teddy bear"), methods.CROSS_INIT, 4),
    ],
)
def test_makes_a_concept_that_remembers_its_training(tiny, pictures, config, method, shape):
    learned = train(tiny, replace(config, steps=2), pictures)
    concept = learned.concept
    assert (concept.method, concept.base) == (method, tiny.kind)
    assert words(learned).shape == (shape, concept.text_width)
    assert concept.training["steps_taken"] == 2
    assert concept.training["config"]["learning_rate"] == config.learning_rate
    assert concept.training["versions"]["comfyui"]
    assert len(learned.losses["loss"]) == 2
    terms = [name for name in learned.losses if name != "loss"]
    for step, total in enumerate(learned.losses["loss"]):
        assert total == pytest.approx(sum(learned.losses[name][step] for name in terms))
    apply_concept(tiny.model, tiny.clip, concept)


def test_the_same_seed_gives_the_same_concept_and_another_another(tiny, pictures):
    one, same = (train(tiny, ci(steps=2), pictures) for _ in range(2))
    other = train(tiny, ci(steps=2, train_seed=7), pictures)
    assert torch.equal(words(one), words(same)) and one.losses == same.losses
    assert not torch.equal(words(one), words(other))


class Stop(Exception):
    pass


def stop_after(step):
    def on_step(report):
        if report.step == step:
            raise Stop

    return on_step


@pytest.mark.parametrize("config", [ti(save_every=2), ci(save_every=2, steps=6)])
@pytest.mark.parametrize(("kind", "stop"), [("sd1", 1), ("sd1", 2), ("sd1", 3), ("sd2", 3)])
def test_a_stopped_training_resumes_bit_equal(kind, pictures, config, stop, tmp_path, request):
    """Wherever it stops; test_failed_trainings.py has every trainer, also on SDXL."""
    tiny = request.getfixturevalue(f"tiny_{kind}")
    whole = train(tiny, config, pictures)
    with pytest.raises(Stop):
        train(tiny, config, pictures, stop_after(stop), tmp_path)
    seen = []
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny, config, pictures, on_step, tmp_path, True)
    assert seen[0] == stop + 1
    assert torch.equal(words(resumed), words(whole))
    assert resumed.losses == whole.losses


def test_a_killed_process_resumes_bit_equal(tiny_sd1, pictures, tmp_path):
    """The state is on disk when the process dies without a word."""
    torch.save(pictures, tmp_path / "pictures.pt")
    script = textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import conftest, torch
        tiny = conftest.load_tiny(Path({str(tiny_sd1.path)!r}), "sd1")
        from personalize.training.cross_init import CrossInitConfig
        from personalize.training.learn import learn
        from personalize.training.sources import Sources
        def die(report):
            if report.step == 5:
                os.kill(os.getpid(), 9)  # at once, on Windows too
        config = CrossInitConfig(placeholder="<me>", steps=8, batch_size=2, resolution=64,
                                 save_every=2)
        folder = Path({str(tmp_path)!r})
        pictures = torch.load(folder / "pictures.pt")
        sources = Sources(model=tiny.model, clip=tiny.clip, vae=tiny.vae, images=pictures)
        with torch.inference_mode():
            learn(config, sources, on_step=die, states=folder / "states")
    """)
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert abs(killed.returncode) == 9
    config = ci(steps=8, save_every=2)
    seen = []
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny_sd1, config, pictures, on_step, tmp_path / "states", True)
    whole = train(tiny_sd1, config, pictures)
    assert seen == [5, 6, 7, 8]
    assert torch.equal(words(resumed), words(whole)) and resumed.losses == whole.losses


def test_resume_adds_steps_to_a_finished_training(tiny_sd1, pictures, tmp_path):
    train(tiny_sd1, ci(steps=3), pictures, states=tmp_path)
    longer = train(tiny_sd1, ci(steps=5), pictures, states=tmp_path, resume=True)
    assert torch.equal(words(longer), words(train(tiny_sd1, ci(steps=5), pictures)))


def test_resolution_0_is_the_same_training_as_the_models_own(
    tiny_sd1, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(HostBase, "resolution", lambda self, model: 64)
    own = train(tiny_sd1, ti(resolution=0, steps=2), pictures, states=tmp_path).concept
    written = train(tiny_sd1, ti(steps=2), pictures, states=tmp_path).concept
    assert own.training["config"]["resolution"] == 64
    assert own.training == written.training
    assert torch.equal(own.words[""], written.words[""])
    assert len(list(tmp_path.iterdir())) == 1  # one folder of states for both


def test_resume_never_takes_the_state_of_another_training(tiny_sd1, pictures, tmp_path):
    train(tiny_sd1, ci(), pictures, states=tmp_path)
    lora = tiny_sd1.clip.clone()
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    shape = lora.patcher.model_state_dict()[key].shape
    lora.add_patches({key: ("diff", (torch.full(shape, 0.1),))})
    for config, images, clip in (
        (ci(learning_rate=0.004), pictures, tiny_sd1.clip),
        (ci(), pictures[1:], tiny_sd1.clip),
        (ci(), pictures, lora),
    ):
        seen = []
        note = lambda report, seen=seen: seen.append(report.step)  # noqa: E731
        train(tiny_sd1, config, images, note, tmp_path, True, clip=clip)
        assert seen == [1, 2, 3, 4]


def cut_off(content):
    return content[:100]


def flipped(content):
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


@pytest.mark.parametrize("damage", [cut_off, flipped])
def test_damaged_states_are_passed_over(damage, tiny_sd1, pictures, tmp_path):
    config = ci(steps=6, save_every=2)
    whole = train(tiny_sd1, config, pictures, states=tmp_path)
    newest = max(tmp_path.glob("*/step_*.safetensors"))
    newest.write_bytes(damage(newest.read_bytes()))
    seen = []
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny_sd1, config, pictures, on_step, tmp_path, True)
    assert seen == [5, 6]
    assert torch.equal(words(resumed), words(whole))


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"word": torch.ones(3, 8)}},
        {"parameters": {}},
        {"moments": {"other": {"step": torch.tensor(1.0)}}},
        {"generator": torch.zeros(3, dtype=torch.uint8)},
        {"loss_scale": math.nan},
        {"losses": {"loss": [1.0]}},
    ],
)
def test_a_state_that_does_not_fit_is_passed_over(changed, tiny_sd1, pictures, tmp_path):
    """Such as one of an earlier version, which has no digest, with a damage that can be read."""
    config = ci(steps=4, save_every=2)
    whole = train(tiny_sd1, config, pictures, states=tmp_path)
    (folder,) = tmp_path.iterdir()
    keeper = StateFolder(tmp_path, folder.name)
    keeper.save(replace(keeper.latest(up_to=4), **changed))
    seen = []
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny_sd1, config, pictures, on_step, tmp_path, True)
    assert seen == [3, 4]
    assert torch.equal(words(resumed), words(whole)) and resumed.losses == whole.losses


def test_a_full_disk_costs_no_step(tiny_sd1, pictures, tmp_path, monkeypatch, caplog):
    """The training goes on in memory, says so, and what it learned can be saved elsewhere."""

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = ci(save_every=2)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        learned = train(tiny_sd1, config, pictures, states=tmp_path / "full")
    assert torch.equal(words(learned), words(train(tiny_sd1, config, pictures)))
    assert caplog.text.count("is not kept: ") == 2 and "the disk is full" in caplog.text
    save_concept(learned.concept, tmp_path / "elsewhere.safetensors")


def test_only_the_latest_states_are_kept(tiny_sd1, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "SMALL_STATE", 0)
    train(tiny_sd1, ci(save_every=1, batch_size=1), pictures, states=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == KEPT_STATES


def test_small_states_are_kept_longer_and_in_the_end_every_second(
    tiny_sd1, pictures, tmp_path, monkeypatch
):
    kept = []
    on_step = lambda report: kept.append(report.keep())  # noqa: E731
    train(tiny_sd1, ci(steps=6, save_every=0), pictures, on_step, tmp_path)
    assert kept == [list(range(1, step + 1)) for step in range(1, 7)]
    monkeypatch.setattr(states, "KEPT_SMALL", 4)
    train(tiny_sd1, ci(steps=8, save_every=0), pictures, on_step, tmp_path, True)
    assert kept[-2:] == [[1, 3, 5, 6, 7], [1, 3, 5, 6, 7, 8]]


def test_a_large_state_is_not_saved_more_often_than_asked(
    tiny_sd1, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "SMALL_STATE", 0)
    kept = []
    on_step = lambda report: kept.append(report.keep())  # noqa: E731
    train(tiny_sd1, ci(steps=5, save_every=2), pictures, on_step, tmp_path)
    assert kept == [[], [2], [2], [2, 4], [2, 4]]


@torch.inference_mode()
@torch.inference_mode()  # as nodes run: the host moves weights here
def sample(tiny, text, model=None, clip=None):
    from nodes import CLIPTextEncode, KSampler

    encode = CLIPTextEncode().encode
    positive, negative = (encode(clip or tiny.clip, t)[0] for t in (text, ""))
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    settings = (3, 2, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    return positive[0][0], KSampler().sample(model or tiny.model, *settings)[0]["samples"]


def weights(patcher):
    # what a file lacks is uninitialised memory in the host, so NaN must equal NaN
    state = here(dict(patcher.model_state_dict()))
    return {key: value.nan_to_num().clone() for key, value in state.items()}


def own_forwards(tiny):
    """Modules whose forward was replaced; the host leaves some so when it takes patches back."""
    modules = [*tiny.model.model.modules(), *tiny.clip.cond_stage_model.modules()]
    return [(m, vars(m)["forward"]) for m in modules if "forward" in vars(m)]


@pytest.mark.parametrize(
    ("precision", "ending"),
    [
        *(("auto", "finished"), ("fp32", "finished"), ("bf16", "finished")),
        *(("auto", "stopped"), ("fp16", "stopped")),
    ],
)
def test_the_users_models_are_bit_equal_before_and_after(tiny, pictures, precision, ending):
    before, kept = sample(tiny, "a photo of a dog"), weights(tiny.model)
    text, forwards = weights(tiny.clip.patcher), own_forwards(tiny)
    config = ci(steps=2, precision=precision, gradient_checkpointing=precision == "auto")
    if ending == "finished":
        train(tiny, config, pictures)
    else:
        with pytest.raises(Stop):
            train(tiny, config, pictures, stop_after(1))
    after = sample(tiny, "a photo of a dog")
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for patcher, old in ((tiny.model, kept), (tiny.clip.patcher, text)):
        now = weights(patcher)
        assert all(torch.equal(old[key], now[key]) for key in old)
    assert own_forwards(tiny) == forwards


def test_sampling_between_steps_changes_nothing(tiny, pictures):
    """A preview patches and loads the same models in mid-training."""
    config = ci(steps=2)

    def preview(report):
        with report.backbone.paused():
            concept = report.learner.to_concept()
            model, clip = apply_concept(tiny.model, tiny.clip, concept, 0.5)
            sample(tiny, "a photo of <me>", model, clip)
            assert torch.is_inference_mode_enabled()

    with_previews, without = train(tiny, config, pictures, preview), train(tiny, config, pictures)
    assert torch.equal(words(with_previews), words(without))


def test_the_resolution_of_old_workflows_is_told_on_sdxl(tiny_sd1, tiny_sdxl):
    told = []
    for tiny in (tiny_sd1, tiny_sdxl):
        with pytest.raises(PictureError):
            train(tiny, ti(resolution=512), [], warn=told.append)  # and then there are no pictures
    (only,) = told
    assert "resolution is 512" in only and "made for 1024" in only and "Set resolution to 0" in only


def test_learns_on_lora_patched_models(tiny, pictures):
    model, clip = tiny.model.clone(), tiny.clip.clone()
    clip.add_patches(text_lora(tiny))
    key = "diffusion_model.out.2.weight"
    shape = model.model_state_dict()[key].shape
    noise = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    model.add_patches({key: ("diff", (noise,))})
    plain = train(tiny, ci(steps=2), pictures)
    patched = train(tiny, ci(steps=2), pictures, model=model, clip=clip)
    assert not torch.allclose(words(plain), words(patched))
    assert torch.equal(words(plain), words(train(tiny, ci(steps=2), pictures)))


def test_a_loss_of_nan_stops_and_keeps_the_last_good_state(tiny_sd1, pictures, tmp_path):
    config = ti(save_every=0)

    def poison(report):
        if report.step == 3:
            with torch.no_grad():
                report.learner.table.ids[:] = 0
                embedding = report.backbone.text.towers[0].text_model.embeddings.position_embedding
                nan = torch.full_like(embedding.weight, float("nan"))
                embedding.weight = torch.nn.Parameter(nan, requires_grad=False)

    table = tiny_sd1.clip.cond_stage_model.clip_l.transformer.text_model.embeddings
    kept = table.position_embedding.weight
    try:
        with pytest.raises(TrainingError, match=r"turned NaN at step 4.*Lower learning_rate"):
            train(tiny_sd1, config, pictures, poison, tmp_path)
    finally:
        table.position_embedding.weight = kept
    seen = []
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    resumed = train(tiny_sd1, config, pictures, on_step, tmp_path, True)
    assert seen == [4]
    assert torch.equal(words(resumed), words(train(tiny_sd1, config, pictures)))


def test_a_learning_rate_that_explodes_leaves_no_broken_state(tiny_sd1, pictures, tmp_path):
    with pytest.raises(TrainingError, match="NaN"):
        train(
            tiny_sd1,
            ti(learning_rate=900.0, steps=400, weight_decay=1e4),
            pictures,
            states=tmp_path,
        )
    for state in tmp_path.glob("*/step_*.safetensors"):
        from safetensors.torch import load_file

        parameters = [v for k, v in load_file(state).items() if k.startswith("parameter/")]
        assert all(torch.isfinite(p).all() for p in parameters)


def scaled(loss, parameter, scale):
    return list(torch.autograd.grad(loss * scale.value, [parameter]))


def test_loss_scale_halves_until_gradients_fit():
    parameter = torch.ones(2, requires_grad=True)
    scale = LossScale(torch.float16)
    start = scale.value
    huge = (parameter.half() * 30).sum().float() * 1000
    overflown = scaled(huge, parameter, scale)
    assert scale.unscaled(overflown, bool(scale.finite(overflown))) is None
    assert scale.value == start / 2
    scale.value = 1.0 * 2
    small = (parameter.half() * 3).sum().float()
    fitting = scaled(small, parameter, scale)
    gradients = scale.unscaled(fitting, bool(scale.finite(fitting)))
    assert gradients is not None
    assert torch.allclose(gradients[0], torch.full((2,), 3.0))
    scale.value = 1.0
    with pytest.raises(TrainingError, match="too large for fp16"):
        scale.unscaled(overflown, bool(scale.finite(overflown)))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (ti, {"vectors": 0}, "Expected 1 to 74 vectors, got 0"),
        (ti, {"vectors": 76}, "Expected 1 to 74 vectors, got 76"),
        (ti, {"steps": 0}, "at least 1 step"),
        (ti, {"batch_size": 0}, "at least 1 step and 1 picture"),
        (ti, {"learning_rate": 0.0}, "learning_rate above 0"),
        (ti, {"learning_rate": math.nan}, "learning_rate above 0"),
        (ti, {"resolution": 70}, "8 divides"),
        (ti, {"resolution": 32}, "at least 64"),
        (ci, {"class_word": "  "}, "class_word is empty"),
        (ci, {"reg_weight": -1}, "reg_weight of 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, changes, message):
    with pytest.raises(TrainingError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: ti(init_word=""), "init_word is empty"),
        (lambda: ti(init_word="teddy bear"), "is 2 tokens .* set vectors to 2"),
        (lambda: ti(vectors=74), "prompt has .* tokens"),
        (lambda: ti(templates="no place"), "has 0 places"),
        (lambda: ci(class_word="very " * 80), "one chunk holds 75"),
    ],
)
def test_words_that_cannot_work_are_refused(tiny_sd1, pictures, config, message):
    with pytest.raises(TrainingError, match=message):
        train(tiny_sd1, config(), pictures)


def test_a_bad_placeholder_is_refused():
    with pytest.raises(PlaceholderError, match="ordinary word.*<dog>"):
        CrossInitConfig(placeholder="dog")


def test_models_that_do_not_belong_together_are_refused(tiny_sd1, tiny_sd2, pictures):
    message = r"MODEL is Stable Diffusion 2.*96.*CLIP is Stable Diffusion 1.*64.*one checkpoint"
    with pytest.raises(BaseModelError, match=message):
        learn(ci(), sources(tiny_sd1, pictures, model=tiny_sd2.model))


def test_a_changed_sampling_is_refused(tiny_sd1, pictures):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = ModelSamplingDiscrete().patch(tiny_sd1.model, "lcm", False)[0]
    with pytest.raises(BaseModelError, match="samples with .*LCM.*remove the node"):
        learn(ci(), sources(tiny_sd1, pictures, model=model))
