"""Training of ELITE encoders: what is learned and what is not, losses, resume, bad input."""

import operator
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from comfy import model_management
from personalize.concepts.elite import map_patches, map_words, mask_patches
from personalize.concepts.errors import BaseModelError, PersonalizeError, TrainingError
from personalize.host.backbone import Backbone
from personalize.host.latents import encode_posterior
from personalize.samplers.apply import apply_concept
from personalize.samplers.local_attention import Details
from personalize.tests.devices import close, device, here, there
from personalize.tests.elite_models import SHAPE, clip_vision, random_encoder, weights_of
from personalize.training.descent import Alone
from personalize.training.elite import batches as elite_batches
from personalize.training.elite.alignment import contrast
from personalize.training.elite.augmentation import disguised, random_stretch
from personalize.training.elite.batches import EliteBatches, examples_for
from personalize.training.elite.config import EliteConfig
from personalize.training.elite.encoding import encode_elite
from personalize.training.elite.folders import PictureFolder
from personalize.training.elite.global_stage import GlobalElite
from personalize.training.elite.local_stage import LocalElite
from personalize.training.elite.train import (
    EliteModels,
    FirstProcessSaves,
    GivenSubjects,
    train_elite,
)
from personalize.training.templates import parse_templates
from personalize.training.zoom import visible_mean
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def models(tiny_sd1):
    return EliteModels(tiny_sd1.model, tiny_sd1.clip, tiny_sd1.vae, clip_vision())


@pytest.fixture(scope="module")
def subjects():
    return GivenSubjects([pictures()], [masks()])


def pictures(count=3):
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def masks(count=3):
    mask = torch.zeros(count, 64, 64)
    mask[:, 16:48, 16:48] = 1
    return mask


def bits_of(tiny):
    """What of the user's models could have changed: bits of weights, gradients, patches."""
    with torch.inference_mode():
        model_management.unload_all_models()  # else with the patches of a clone used before
    text = tiny.clip.cond_stage_model.clip_l.transformer.text_model
    modules = {"UNet": tiny.model.model.diffusion_model, "text": text}
    bits = {
        f"{part} {name}": (sha256(w.detach().numpy().tobytes()).hexdigest(), w.grad)
        for part, module in modules.items()
        for name, w in module.named_parameters()
    }
    return bits, dict(tiny.model.patches), dict(tiny.model.model_options)


def config(stage="global", **changes):
    settings = {"steps": 3, "batch_size": 2, "resolution": 64, "learning_rate": 1e-3}
    return EliteConfig(stage=stage, **settings | changes)


def train(models, subjects, chosen, start=None, on_step=lambda report: None, **more):
    with torch.inference_mode():  # as a node runs
        return train_elite(chosen, models, subjects, start=start, on_step=on_step, **more)


def test_the_global_stage_learns_a_mapper_and_the_keys_and_values(models, subjects, tiny_sd1):
    before = bits_of(tiny_sd1)
    trained = train(models, subjects, config(steps=8, words_weight=100.0))
    stage, own = trained.encoder.global_stage, weights_of(tiny_sd1.model)
    assert trained.encoder.local_stage is None
    assert (trained.encoder.base, trained.encoder.vision) == ("sd1", SHAPE)
    assert set(stage.projections) == set(own)
    for path, pair in stage.projections.items():
        for new, old in zip(pair, own[path], strict=True):
            assert new.shape == old.shape and not torch.equal(new, old)
            assert close(new, old, atol=0.02)
    assert list(trained.losses) == ["loss", "denoising", "words"]
    assert trained.losses["words"][-1] < trained.losses["words"][0]
    assert bits_of(tiny_sd1) == before


def test_the_align_stage_learns_words_that_clip_finds_alike(models, subjects, tiny_sd1):
    encoder = models.clip.cond_stage_model.clip_l.transformer
    with torch.inference_mode():  # the host leaves it uninitialised
        encoder.text_projection.weight.copy_(torch.eye(64))
    before = bits_of(tiny_sd1)
    pair = replace(models, clip_vision=clip_vision(projection_dim=64))
    trained = train(pair, subjects, config("align", steps=30, batch_size=3, learning_rate=0.01))
    stage, own = trained.encoder.global_stage, weights_of(tiny_sd1.model)
    assert list(trained.losses) == ["loss", "contrast", "words"]
    first, last = (sum(trained.losses["contrast"][part]) for part in (slice(5), slice(-5, None)))
    assert last < first
    for path, pair in own.items():
        for kept, old in zip(stage.projections[path], pair, strict=True):
            assert torch.equal(kept, old)
    assert trained.encoder.local_stage is None
    with pytest.raises(TrainingError, match="align stage needs a mask for each"):
        train(pair, GivenSubjects([pictures()]), config("align"))
    assert bits_of(tiny_sd1) == before


def test_contrast_is_least_for_pairs_that_point_alike():
    subjects = torch.eye(4, 6)
    assert contrast(3 * subjects, subjects) < 1e-3
    assert contrast(subjects.roll(1, 0), subjects) > 10
    alike = torch.ones(4, 6)
    assert contrast(alike, subjects) == pytest.approx(1.386, abs=1e-3)  # the logarithm of 4
    with pytest.raises(BaseModelError, match="width 6, the CLIP_VISION of width 5"):
        contrast(subjects, torch.ones(4, 5))


def test_keys_and_values_can_learn_less(models, subjects, tiny_sd1):
    start = random_encoder(tiny_sd1).global_stage
    kept = train(models, subjects, config(projections_share=0.0), random_encoder(tiny_sd1))
    stage = kept.encoder.global_stage
    for path, pair in start.projections.items():
        for new, old in zip(stage.projections[path], pair, strict=True):
            assert torch.equal(new, old)
    distances = [(w - start.mapper[k]).abs().max() for k, w in stage.mapper.items()]
    assert 0 < max(distances) < 0.01  # three steps of 0.001


def test_the_local_stage_learns_on_a_frozen_global_one(models, subjects, tiny_sd1):
    before = bits_of(tiny_sd1)
    start = random_encoder(tiny_sd1)
    trained = train(models, subjects, config("local", steps=8, values_weight=10.0), start)
    assert trained.encoder.global_stage.digest == start.global_stage.digest
    assert trained.encoder.local_stage.digest != start.local_stage.digest
    assert list(trained.losses) == ["loss", "denoising", "values"]
    assert trained.losses["values"][-1] < trained.losses["values"][0]
    assert bits_of(tiny_sd1) == before


def test_the_local_stage_may_leave_its_pictures_as_they_are(models, subjects):
    templates = len(parse_templates(""))

    def kinds(zoom):
        make = examples_for(subjects, config("local", zoom=zoom), models.clip_vision)
        examples = [make(number) for number in range(24)]
        return {(bool(e.visible.all()), e.caption // templates) for e in examples}

    assert kinds(False) == {(True, 0)}
    assert {(True, 0), (False, 1), (False, 2), (True, 3), (True, 4)} == kinds(True)


def test_what_was_trained_encodes_and_applies(models, subjects, tiny_sd1):
    words = train(models, subjects, config()).encoder
    whole = train(models, subjects, config("local"), words).encoder
    concept = encode_elite(
        whole, models.clip_vision, pictures(1), masks(1), placeholder="<rex>", class_word="dog"
    )
    apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, details=Details(0.8))


def test_all_stages_on_sdxl(subjects, tiny_sdxl):
    """The stage align compares what clip_g pools, which has the width of its own projection."""
    vision = clip_vision(projection_dim=96)
    models = EliteModels(tiny_sdxl.model, tiny_sdxl.clip, tiny_sdxl.vae, vision)
    weights = tiny_sdxl.clip.patcher.model_state_dict().items()
    kept = {k: w.clone() for k, w in weights if "clip_l.transformer.text_proj" not in k}  # no file
    encoder, terms = None, {"align": "contrast", "global": "denoising", "local": "denoising"}
    for stage, term in terms.items():
        trained = train(models, subjects, config(stage), encoder)
        assert list(trained.losses)[1] == term
        encoder = trained.encoder
    assert (encoder.base, encoder.text_width) == ("sdxl", 160)
    assert len(encoder.local_stage.projections) == 11
    kept, now = here((kept, dict(tiny_sdxl.clip.patcher.model_state_dict())))
    assert [k for k, w in kept.items() if not torch.equal(w, now[k])] == []


@pytest.mark.parametrize("stage", ["global", "local"])
def test_the_same_seed_and_a_resume_give_the_same_encoder(
    stage, models, subjects, tiny_sd1, tmp_path
):
    start = random_encoder(tiny_sd1) if stage == "local" else None
    chosen = config(stage, steps=4, save_every=1, average=0.5, warmup=2)
    whole = train(models, subjects, chosen, start, threads=2)

    def stop(report):
        if report.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(models, subjects, chosen, start, stop, states=tmp_path)
    steps = []
    told = {"on_step": lambda r: steps.append(r.step)}
    resumed = train(models, subjects, chosen, start, **told, states=tmp_path, resume=True)
    assert steps == [3, 4]
    assert resumed.encoder.digest == whole.encoder.digest
    assert resumed.losses == whole.losses
    other = train(models, subjects, config(stage, steps=4, train_seed=1), start)
    assert other.encoder.digest != whole.encoder.digest


@pytest.mark.parametrize("stage", ["global", "local"])
def test_accumulated_batches_learn_as_one(stage, models, subjects, tiny_sd1):
    start = random_encoder(tiny_sd1) if stage == "local" else None
    settings = {"batch_size": 4, "learning_rate": 1e-4, "precision": "fp32"}
    one = train(models, subjects, config(stage, **settings), start)
    split = train(models, subjects, config(stage, accumulation=2, **settings), start)
    assert split.losses["loss"] == pytest.approx(one.losses["loss"], rel=1e-5)


def test_the_global_stage_encodes_a_picture_once_where_memory_allows(models, subjects, monkeypatch):
    sizes = []

    def counted(vae, pictures):
        sizes.append(len(pictures))
        return encode_posterior(vae, pictures)

    monkeypatch.setattr(elite_batches, "encode_posterior", counted)
    chosen = config(steps=6, precision="fp32")
    kept = train(models, subjects, chosen)
    assert sizes == [1] * len(subjects)
    monkeypatch.setattr(elite_batches, "MOST_KEPT", 0)
    encoded = train(models, subjects, chosen)
    assert sizes[len(subjects) :] == [2] * 6
    assert kept.losses["loss"] == pytest.approx(encoded.losses["loss"], rel=1e-4)


def batch_of(models, subjects, chosen, backbone):
    examples = examples_for(subjects, chosen, models.clip_vision)
    return EliteBatches(examples, backbone, models.vae, models.clip_vision, Alone())(0, None)


def test_a_new_mapper_can_start_with_smaller_words(models, subjects, tiny_sd1):
    features = there(torch.randn(5, 2, 1 + SHAPE.patches, SHAPE.width))
    backbone = Backbone(models.model, models.clip, config().precision, False)
    with backbone.session((2, 4, 8, 8)):
        sizes = []
        for scale in (1.0, 0.2):
            learner = GlobalElite(config(start_scale=scale), backbone, SHAPE)
            sizes.append(map_words(learner.mapper, features).detach())
    assert close(sizes[1], 0.2 * sizes[0])


@pytest.mark.parametrize("stage", ["global", "local"])
def test_processes_share_the_very_examples_of_one(stage, models, subjects):
    chosen = config(stage, batch_size=4)
    examples = examples_for(subjects, chosen, models.clip_vision)

    def made(index, count):
        processes = SimpleNamespace(index=index, count=count)
        batches = EliteBatches(examples, None, models.vae, models.clip_vision, processes)
        return [example for step in range(2) for example in batches._made(step)]

    alone = made(0, 1)
    first, second = (made(index, 2) for index in range(2))
    shared = [*first[:2], *second[:2], *first[2:], *second[2:]]
    for one, other in zip(alone, shared, strict=True):
        for name, value in vars(one).items():
            same = torch.equal if torch.is_tensor(value) else operator.eq
            assert same(value, getattr(other, name)), name
    assert len({example.moment for example in alone}) == 8


def test_the_first_process_reads_and_writes_states_for_all():
    sent, saved = [], []

    class Process:
        def __init__(self, index):
            self.index = index

        def from_first(self, value):
            if self.index == 0:
                sent.append(value)
            return sent[-1]

    def keeper(index):
        asked = {"latest": lambda up_to, check: f"{index} up to {up_to}", "save": saved.append}
        states = SimpleNamespace(**asked, steps=lambda: [index])
        return FirstProcessSaves(states, Process(index))

    keepers = [keeper(index) for index in range(2)]
    assert [one.latest(7, None) for one in keepers] == ["0 up to 7"] * 2
    for number, one in enumerate(keepers):
        one.save(number)
    assert saved == [0] and keepers[0].steps() == [0]


def test_given_subjects_are_pictures_with_their_masks():
    given = GivenSubjects([pictures()], [masks()])
    for n, (picture, mask) in enumerate(zip(pictures(), masks(), strict=True)):
        subject = given.load(n, None)
        assert torch.equal(subject.picture, picture) and torch.equal(subject.mask, mask)
    assert len(given) == 3 and given.with_masks and given.first is given.load(0, None)
    cut_out = GivenSubjects([torch.cat([pictures(1), masks(1)[..., None]], dim=-1)])
    assert cut_out.with_masks and torch.equal(cut_out.first.mask, masks()[0])
    plain = GivenSubjects([pictures()])
    assert not plain.with_masks and plain.first.mask is None
    others = [
        plain,
        GivenSubjects([pictures()], [torch.ones(3, 64, 64)]),
        GivenSubjects([pictures(2)]),
    ]
    assert len({str(one.identity()) for one in (given, *others)}) == 4


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_the_local_loss_is_that_of_sampling_with_the_concept(kind, subjects, request):
    """One row of a batch predicts noise as the applied concept does at lambda 1."""
    tiny = request.getfixturevalue(f"tiny_{kind}")
    models = EliteModels(tiny.model, tiny.clip, tiny.vae, clip_vision())
    start = random_encoder(tiny)
    chosen = config("local", batch_size=1, templates="a photo of a {} here")
    backbone = Backbone(models.model, models.clip)
    with backbone.session((1, 4, 8, 8)):
        learner = LocalElite(chosen, backbone, start)
        batch = batch_of(models, subjects, chosen, backbone)
        loss = learner.loss(backbone, batch)["denoising"].item()
        learner.config = replace(chosen, sum_channels=False)
        of_means = learner.loss(backbone, batch)["denoising"].item()
        caption = here(learner.table.ids[batch.prompt[0], :, 0])
        sigma = backbone.denoiser.sigmas(batch.t)
        sigma, batch = here(sigma), batch.to(torch.device("cpu"))
        words = map_words(start.global_stage.mapper, batch.features)
        local = mask_patches(map_patches(start.local_stage.mapper, batch.local), batch.masks)

    concept = encode_elite(
        start, models.clip_vision, pictures(1), masks(1), placeholder="<rex>", class_word="dog"
    )
    concept = replace(concept, words={"": words[:, 0]}, tensors={"local": local[0]})
    text = models.clip.tokenizer.clip_l.tokenizer.decode(caption[1 : caption.tolist().index(49407)])
    prompt = text.replace("!", "<rex>")  # token 0 holds the word's place
    model, clip = apply_concept(tiny.model, tiny.clip, concept, details=Details(1.0))
    expected = sampled_error(model, clip, prompt, batch, sigma)
    visible = batch.visible.expand_as(expected)
    mean = float((expected * visible).sum() / visible.sum())
    assert loss == pytest.approx(4 * mean, rel=1e-3)  # summed over the channels, as published
    assert loss == pytest.approx(4 * of_means, rel=1e-5)


def sampled_error(model, clip, prompt, batch, sigma):
    """(noise - epsilon)^2 of the host's own sampling step with all patches."""
    from comfy.model_management import load_models_gpu
    from comfy.samplers import calc_cond_batch, process_conds

    cond = clip.encode_from_tokens_scheduled(clip.tokenize(prompt), show_pbar=False)
    conds = {"positive": [[c[0], c[1]] for c in cond]}
    from comfy.sampler_helpers import convert_cond

    load_models_gpu([model])
    batch, sigma = batch.to(device()), there(sigma)
    x = batch.x0 + sigma.view(-1, 1, 1, 1) * batch.noise
    conds = {"positive": convert_cond(conds["positive"])}
    conds = process_conds(model.model, x, conds, x.device, latent_image=x)
    model.pre_run()
    with torch.inference_mode():
        out = calc_cond_batch(model.model, [conds["positive"]], x, sigma, model.model_options)[0]
        model.cleanup()
    return here(((x - out) / sigma.view(-1, 1, 1, 1) - batch.noise) ** 2)


def test_five_words_stand_at_the_placeholder_and_push_the_rest(models):
    backbone = Backbone(models.model, models.clip)
    with backbone.session((1, 4, 8, 8)):
        learner = GlobalElite(config(templates="a photo of a {} here"), backbone, SHAPE)
        words = torch.arange(2.0 * 5 * 64).view(2, 5, 64)
        embeds = here(learner.table.embed(backbone.text, torch.tensor([0, 0]), words).rows)
        last = backbone.text.embed(there(torch.tensor(backbone.text.tokenize("here"))))
    assert torch.equal(embeds[:, 5:10], words)
    assert torch.equal(embeds[0, 10], here(last)[0])


def test_only_what_is_visible_counts_and_every_picture_alike():
    errors = torch.ones(2, 4, 2, 2)
    errors[0, :, 0] = 9.0
    visible = torch.ones(2, 1, 2, 2)
    visible[0, :, 0] = 0
    visible[0, :, 1, 1] = 0
    assert visible_mean(errors, visible) == 1.0


def test_batch_and_rate_are_the_programs_and_the_rate_grows_with_the_batch():
    for stage, batch, rate in (("global", 64, 6.4e-5), ("local", 32, 3.2e-4)):
        own = EliteConfig(stage=stage)
        assert (own.batch_size, own.learning_rate) == (batch, pytest.approx(rate))
    assert EliteConfig(batch_size=16).learning_rate == pytest.approx(1.6e-5)
    assert EliteConfig(stage="local", batch_size=8).learning_rate == pytest.approx(8e-5)


def test_what_the_encoder_sees_is_stretched_as_far_as_in_the_program():
    """Mean displacement of the pixels that stay in the picture of 224, as measured there: 35."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(224.0) / 112 - 1
    grid = torch.stack([*torch.meshgrid(line, line, indexing="xy"), torch.ones(224, 224)], dim=-1)
    moved = []
    for _ in range(100):
        places = (grid @ torch.linalg.inv(random_stretch(generator)).T)[..., :2]
        distance = 112 * (places - grid[..., :2]).norm(dim=-1)
        moved.append(distance[(places.abs() < 1).all(dim=-1)].mean().item())
    assert sum(moved) / len(moved) == pytest.approx(35, abs=2)


def test_a_stretch_moves_three_points_and_no_more():
    move = random_stretch(torch.Generator().manual_seed(3))
    third = 2 / 3
    points = torch.tensor([[third, third, 1], [third, -third, 1], [-third, -third, 1]])
    moves = points @ torch.linalg.inv(move).T - points
    assert moves[:, :2].abs().max() <= 2 * 50 / 224 + 1e-5
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))

    def seen(stretch, seed):
        return disguised(picture, False, stretch, torch.Generator().manual_seed(seed))

    changed = [not torch.equal(seen(True, n), seen(False, n)) for n in range(200)]
    assert 0.2 < sum(changed) / len(changed) < 0.4


BAD = [
    ({"stage": "local"}, [pictures()], [masks()], TrainingError, "Train the global stage first"),
    ({}, [], [], TrainingError, "no picture to train on. Connect pictures"),
    ({}, [pictures()], [masks(2)], PersonalizeError, "got 2 masks and 3 pictures"),
    ({}, [pictures()], [masks() * 0], PersonalizeError, "Mask 1 .* is empty"),
    ({"average": 1.0}, [pictures()], [], TrainingError, "average from 0 .* below 1, got 1.0"),
    ({"accumulation": 3}, [pictures()], [], TrainingError, "2 pictures cannot be shared by 1 proc"),
    ({"templates": "a photo"}, [pictures()], [], TrainingError, "has 0 places for the subject"),
]


@pytest.mark.parametrize(("changes", "images", "given", "error", "says"), BAD)
def test_bad_input(changes, images, given, error, says, models):
    with pytest.raises(error, match=says):
        train(models, GivenSubjects(images, given), config(**changes))


def test_what_cannot_be_used_is_told_once_and_another_takes_its_place(models, tmp_path, caplog):
    for n, picture in enumerate(pictures()):
        Image.fromarray((picture * 255).byte().numpy()).save(tmp_path / f"{n}.png")
    whole = train(models, PictureFolder(tmp_path, False), config(steps=6))
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    Image.new("RGB", (9, 400)).save(tmp_path / "4.png")
    broken = train(models, PictureFolder(tmp_path, False), config(steps=6))
    assert len(broken.losses["loss"]) == len(whole.losses["loss"]) == 6
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert sorted("3.jpg" in line for line in told) == [False, True]
    assert any("4.png shows has 9 x 400 pixels only" in line for line in told)


def test_the_local_stage_needs_masks_and_what_fits(models, subjects, tiny_sd1, tiny_sd2):
    start = random_encoder(tiny_sd1)
    with pytest.raises(TrainingError, match="needs a mask for each picture, and there are none"):
        train(models, GivenSubjects([pictures()]), config("local"), start)
    other = EliteModels(tiny_sd1.model, tiny_sd1.clip, tiny_sd1.vae, clip_vision(hidden_size=48))
    with pytest.raises(BaseModelError, match="of width 32.*this CLIP_VISION has width 48"):
        train(other, subjects, config("local"), start)
    second = EliteModels(tiny_sd2.model, tiny_sd2.clip, tiny_sd2.vae, models.clip_vision)
    for stage in ("local", "global", "align"):
        with pytest.raises(BaseModelError, match="places or sizes differ. Go on with the model"):
            train(second, subjects, config(stage), start)


def test_too_little_memory_names_what_to_change(models, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(GlobalElite, "loss", full)
    with pytest.raises(
        TrainingError, match="2 pictures at once at resolution 64. Set micro_batch to 1"
    ):
        train(models, GivenSubjects([pictures()]), config())
