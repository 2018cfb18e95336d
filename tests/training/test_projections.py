"""Keys and values trained at a rank, against whole weights."""

import pytest
import torch
from personalize.concepts.bases import BASES
from personalize.concepts.differences import factors, weight_differences
from personalize.concepts.errors import TrainingError
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.lora import lora_tensors
from personalize.host.backbone import Backbone
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import here, there
from personalize.tests.played_device import PLAYED, host_with, played_device
from personalize.tests.test_custom_diffusion import (
    LATENTS,
    cd,
    no_cd_pictures,
    same_concept,
    with_prior,
)
from personalize.tests.trainers import noise, run_trainer
from personalize.tests.training.test_learn import Stop, stop_after, train
from personalize.tests.training.test_parity import make_batch, relative
from personalize.training.custom_diffusion import CustomDiffusion, CustomDiffusionConfig
from personalize.training.detex import DetexConfig

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


RANK = 3


def learned(tiny, *args, **changes):
    settings = {"rank": RANK, "learning_rate": 5e-3} | changes
    return train(tiny, cd(**settings), [noise(2, 64, 64, 3)], *args,
                 prior_images=[noise(2, 64, 64, 3, seed=2)])  # fmt: skip


@pytest.fixture(scope="module")
def concept(tiny_sd1):
    return learned(tiny_sd1).concept


def gradients(tiny, rank, change):
    """Loss and gradients by name, with the parameters changed first."""
    backbone, batch = Backbone(tiny.model, tiny.clip), with_prior(make_batch(prompt=(0, 0)))
    with backbone.session(LATENTS):
        learner = CustomDiffusion(cd(rank=rank), backbone, no_cd_pictures())
        with torch.no_grad():
            change(learner.projections.parameters)
        loss = sum(learner.loss(backbone, batch).values())
        found = torch.autograd.grad(loss, list(learner.parameters.values()))
        return loss.item(), dict(zip(learner.parameters, here(found), strict=True))


def test_a_product_counts_and_learns_as_the_weight_that_it_is_added_to(tiny):
    """Gradients of whole weights equal those of diffusers; by the chain rule these do, too."""
    factors = {}

    def change_factors(parameters):
        for n, (name, factor) in enumerate(parameters.items()):
            factor.copy_((noise(*factor.shape, seed=n) - 0.5) * 0.2)
            factors[name] = here(factor.detach()).clone()

    def change_weights(parameters):
        for path, weight in parameters.items():
            weight += there(factors[f"{path}.up"] @ factors[f"{path}.down"])

    loss, small = gradients(tiny, RANK, change_factors)
    same_loss, whole = gradients(tiny, 0, change_weights)
    assert loss == pytest.approx(same_loss, rel=1e-5)
    assert relative(small["words"], whole["words"]) < 1e-4
    for path in {name.rpartition(".")[0] for name in factors}:
        up, down, gradient = factors[f"{path}.up"], factors[f"{path}.down"], whole[path]
        assert relative(small[f"{path}.up"], gradient @ down.T) < 1e-4, path
        assert relative(small[f"{path}.down"], up.T @ gradient) < 1e-4, path


def test_it_starts_as_the_model_is_and_with_steps_of_one_size(tiny_sd1):
    """A step of Adam at a rank moves the weights about as far as one of whole weights."""
    start, _ = gradients(tiny_sd1, RANK, lambda parameters: None)
    assert start == gradients(tiny_sd1, 0, lambda parameters: None)[0]
    moved = []
    for rank in (0, RANK):
        differences = weight_differences(learned(tiny_sd1, rank=rank, steps=1).concept)
        moved.append(sum(d.square().sum().item() for d in differences.values()) ** 0.5)
    assert 0.5 < moved[1] / moved[0] < 2


def test_the_concept_is_in_the_compressed_form(concept, tmp_path):
    ranks = {pair[1].shape[0] for pair in factors(concept).values()}
    assert ranks == {RANK}
    assert {name.rpartition(".")[2] for name in concept.tensors} == {"up", "down"}
    assert concept.training["config"]["rank"] == RANK
    save_concept(concept, tmp_path / "dog.safetensors")
    assert same_concept(concept, load_concept(tmp_path / "dog.safetensors"))
    lora, lost = lora_tensors(concept, 0)
    assert not lost and all(len(t) == RANK for name, t in lora.items() if "lora_down" in name)


def test_what_is_saved_is_what_was_trained(tiny_sd1):
    """At strength 1 the session's own prediction; smaller strengths go there in a line."""
    seen, batch = {}, make_batch(prompt=(0, 0))

    def predict(backbone, context):
        with torch.no_grad():
            return backbone.denoiser.predict(batch.x0, batch.noise, batch.t, context)

    def on_step(report):
        seen["context"] = report.learner.context(report.backbone, batch)
        seen["out"] = predict(report.backbone, seen["context"])

    concept = learned(tiny_sd1, on_step).concept
    outs = []
    for strength in (0.0, 0.5, 1.0):
        model, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, strength)
        backbone = Backbone(model, tiny_sd1.clip)
        with backbone.session(LATENTS):
            outs.append(predict(backbone, seen["context"]))
    effect = (outs[0] - seen["out"]).norm()
    assert effect > 0.001 * seen["out"].norm()
    assert (outs[2] - seen["out"]).norm() < 0.05 * effect
    assert (outs[1] - (outs[0] + outs[2]) / 2).norm() < 0.3 * effect


def test_a_stopped_training_resumes_bit_equal(tiny_sd1, concept, tmp_path):
    def preview_and_stop(report):
        with report.backbone.paused():
            apply_concept(tiny_sd1.model, tiny_sd1.clip, report.learner.to_concept())
        stop_after(2)(report)

    with pytest.raises(Stop):
        learned(tiny_sd1, preview_and_stop, tmp_path)
    steps = []
    resumed = learned(tiny_sd1, lambda report: steps.append(report.step), tmp_path, True)
    assert steps == [3] and same_concept(resumed.concept, concept)


def test_nothing_stays_in_the_users_model(tiny_sd1, concept):
    modules = tiny_sd1.model.model.diffusion_model.modules()
    assert not any(module._forward_hooks for module in modules)


@pytest.mark.parametrize("trainer", ["custom diffusion", "detex"])
def test_trains_on_a_device_as_on_the_cpu(tiny_sd1, trainer):
    from personalize.tests.conftest import load_tiny

    here = run_trainer(trainer, tiny_sd1, steps=2, rank=RANK)
    with played_device() as device, host_with(device):
        there = run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1"), steps=2, rank=RANK)
    assert device == PLAYED and any(name.endswith(".up") for name in there.tensors)
    assert there.losses["loss"] == pytest.approx(here.losses["loss"], rel=1e-4)


def test_a_rank_is_at_most_that_of_the_weight(tiny_sd1):
    whole = learned(tiny_sd1, rank=1000, steps=1).concept
    assert all(up.shape[1] == min(up.shape[0], down.shape[1]) for up, down in
               factors(whole).values())  # fmt: skip


@pytest.mark.parametrize(
    "config", [cd, lambda **c: DetexConfig(placeholder="<x>", class_word="dog", **c)]
)
def test_the_base_says_which_rank_where_nothing_is_asked_for(config):
    small, large = BASES["sd1"], BASES["sdxl"]
    for base, asked, rank in ((small, -1, 0), (large, -1, 32), (large, 0, 0), (large, 4, 4)):
        assert config(rank=asked).on_base(base, 512).rank == rank
    assert config(rank=-1).rank == -1 == CustomDiffusionConfig.rank
    with pytest.raises(TrainingError, match="rank of 1 or more, 0 for whole weights or -1"):
        config(rank=-2)


def test_states_of_whole_weights_are_found_that_earlier_versions_kept():
    assert "rank" not in cd(rank=0).identity() and cd(rank=4).identity()["rank"] == 4
