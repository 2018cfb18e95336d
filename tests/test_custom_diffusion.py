"""Custom Diffusion: trained projections, class pictures, applying, against plain diffusers."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.differences import compressed, weight_differences
from personalize.concepts.errors import (
    BaseModelError,
    ConceptFileError,
    PersonalizeError,
    PictureError,
    TrainingError,
)
from personalize.concepts.files import load_concept, save_concept, save_embedding
from personalize.host.backbone import Backbone, Precision
from personalize.host.weights import weight_key
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import close, device, here, same
from personalize.tests.stock import assert_differ, assert_same, encode
from personalize.tests.training.test_learn import (
    Stop,
    sample,
    train,
    weights,
)
from personalize.tests.training.test_parity import (
    drawn,
    make_batch,
    no_pictures,
    relative,
    shape_of,
    tokenizer_folder,
)
from personalize.training.batch import squared_errors
from personalize.training.custom_diffusion import (
    CustomDiffusion,
    CustomDiffusionConfig,
    CustomDiffusionPictures,
)
from personalize.training.preservation import BatchWithPrior
from personalize.training.prior import SAMPLING, ClassPictures
from personalize.training.sources import Sources
from PIL import Image
from PIL.PngImagePlugin import PngInfo

pytestmark = pytest.mark.host

LATENTS = (2, 4, 8, 8)
LORA = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def pictures():
    return [torch.rand(2, 64, 70, 3, generator=torch.Generator().manual_seed(1))]


@pytest.fixture(scope="module")
def dogs():
    """Given pictures of the class, of another size."""
    return [torch.rand(3, 90, 66, 3, generator=torch.Generator().manual_seed(2))]


def cd(**changes):
    settings = {"class_word": "dog", "steps": 3, "batch_size": 2, "resolution": 64}
    settings |= {"learning_rate": 1e-3, "rank": 0, "zoom": False}
    return CustomDiffusionConfig(placeholder="<my-dog>", **settings | changes)


def learned(tiny, pictures, dogs, *args, material=None, **changes):
    material = material or {"prior_images": dogs}
    return train(tiny, cd(**changes), pictures, *args, **material)


@pytest.fixture(scope="module")
def concept(tiny_sd1, pictures, dogs):
    return learned(tiny_sd1, pictures, dogs, learning_rate=5e-3).concept


def same_concept(one, other):
    assert one.words.keys() == other.words.keys() and one.tensors.keys() == other.tensors.keys()
    pairs = [(one.words[k], other.words[k]) for k in one.words]
    pairs += [(one.tensors[k], other.tensors[k]) for k in one.tensors]
    return all(torch.equal(a, b) for a, b in pairs)


# --- one step against plain diffusers ---------------------------------------------------------


def projections_of(unet, theirs):
    """The weights of diffusers' UNet that equal these, by the same keys."""
    ours = {k: w.detach().float().cpu() for k, w in theirs.items()}
    found = {}
    for name, parameter in unet.named_parameters():
        if ".attn2.to_k." in name or ".attn2.to_v." in name:
            same = [
                k
                for k, w in ours.items()
                if w.shape == parameter.shape and torch.equal(w, parameter)
            ]
            assert len(same) == 1, name
            found[same[0]] = parameter.requires_grad_()
    assert len(found) == len(ours)
    return found


def no_cd_pictures():
    return CustomDiffusionPictures(**vars(no_pictures()), prior=None)


def with_prior(batch, seed=9):
    return BatchWithPrior(**vars(batch), prior=make_batch(seed=seed))


def with_custom_attention(unet):
    """diffusers' own attention of Custom Diffusion, with the UNet's weights as trained ones."""
    from diffusers.models.attention_processor import CustomDiffusionAttnProcessor

    for name, attn in unet.named_modules():
        if name.endswith(".attn2"):
            sizes = {"hidden_size": attn.to_k.out_features}
            sizes["cross_attention_dim"] = attn.to_k.in_features
            processor = CustomDiffusionAttnProcessor(train_q_out=False, **sizes)
            processor.to_k_custom_diffusion.weight = attn.to_k.weight
            processor.to_v_custom_diffusion.weight = attn.to_v.weight
            attn.processor = processor


@pytest.mark.parametrize(("prior_weight", "first_token"), [(0.0, True), (0.7, False)])
def test_gradients_equal_diffusers(every_tiny, prior_weight, first_token):
    """As its plain attention, and as its attention for Custom Diffusion."""
    from personalize.tests.training import reference as plain

    tiny = every_tiny
    reference = plain.reference(tiny.path, shape_of(tiny.kind), tokenizer_folder(), words=1)
    if not first_token:
        with_custom_attention(reference.unet)
    backbone, batch = Backbone(tiny.model, tiny.clip), make_batch(prompt=(0, 0))
    batch = with_prior(batch) if prior_weight else BatchWithPrior(**vars(batch))
    with backbone.session(LATENTS):
        config = cd(prior_weight=prior_weight, first_token=first_token)
        learner = CustomDiffusion(config, backbone, no_cd_pictures())
        theirs = projections_of(reference.unet, learner.projections.parameters)
        terms = learner.loss(backbone, batch)
        parameters = learner.parameters
        gradients = torch.autograd.grad(sum(terms.values()), list(parameters.values()))
    word = here(learner.words.detach()).clone().requires_grad_()
    losses = {"denoising": reference.loss(
        word, ["photo of a <v0> dog"] * 2, *drawn(batch)
    )}  # fmt: skip
    if prior_weight:
        loss = reference.loss(word, ["photo of a dog"] * 2, *drawn(batch.prior))
        losses["prior"] = prior_weight * loss
    expected = torch.autograd.grad(sum(losses.values()), [word, *theirs.values()])
    assert terms.keys() == losses.keys()
    for name, loss in losses.items():
        assert terms[name].item() == pytest.approx(loss.item(), rel=1e-5)
    by_name = dict(zip(["words", *theirs], expected, strict=True))
    for name, gradient in zip(parameters, gradients, strict=True):
        assert by_name[name].norm() > 1e-4
        assert relative(gradient, by_name[name]) < 1e-4, name


def test_gradient_checkpointing_and_other_precisions_change_little(tiny_sd1):
    def step(**options):
        backbone = Backbone(tiny_sd1.model, tiny_sd1.clip, **options)
        with backbone.session(LATENTS):
            learner = CustomDiffusion(cd(), backbone, no_cd_pictures())
            loss = sum(learner.loss(backbone, with_prior(make_batch(prompt=(0, 0)))).values())
            return torch.autograd.grad(loss, list(learner.parameters.values()))

    plain = step()
    assert all(map(same, plain, step(gradient_checkpointing=True)))
    for precision, tolerance in (("bf16", 0.05), ("fp16", 0.01)):
        near = step(precision=Precision(precision))
        assert all(g.dtype == torch.float32 for g in near)
        assert max(map(relative, near, plain)) < tolerance


# --- training ---------------------------------------------------------------------------------


def test_makes_a_concept_of_a_word_and_differences(tiny_base, pictures, dogs):
    result = learned(tiny_base, pictures, dogs)
    concept = result.concept
    assert concept.method is methods.CUSTOM_DIFFUSION
    assert concept.words[""].shape == (1, concept.text_width)
    differences = weight_differences(concept)
    assert len(differences) == (22 if concept.base == "sdxl" else 14)
    assert all(d.norm() > 0 for d in differences.values())
    assert set(result.losses) == {"loss", "denoising", "prior"}


def test_the_same_seed_gives_the_same_concept(tiny_sd1, pictures, dogs):
    one, same = (learned(tiny_sd1, pictures, dogs).concept for _ in range(2))
    assert same_concept(one, same)
    assert not same_concept(one, learned(tiny_sd1, pictures, dogs, train_seed=1).concept)


def test_other_class_pictures_are_another_training(tiny_sd1, pictures, dogs, tmp_path):
    learned(tiny_sd1, pictures, dogs, lambda report: None, tmp_path)
    seen = []
    other = {"prior_images": [dogs[0].flip(1)]}
    on_step = lambda report: seen.append(report.step)  # noqa: E731
    learned(tiny_sd1, pictures, dogs, on_step, tmp_path, True, material=other)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("precision", "ending"), [("auto", "finished"), ("bf16", "stopped")])
def test_the_users_models_are_bit_equal_before_and_after(
    tiny_base, pictures, dogs, precision, ending
):
    """With a preview in mid-training, which samples with the concept so far."""
    tiny = tiny_base
    before, kept = sample(tiny, "a photo of a dog"), weights(tiny.model)
    previews = []

    def on_step(report):
        with report.backbone.paused():
            concept = report.learner.to_concept()
            previews.append(
                sample(tiny, "a <my-dog>", *apply_concept(tiny.model, tiny.clip, concept))
            )
        if ending == "stopped" and report.step == 2:
            raise Stop

    if ending == "stopped":
        with pytest.raises(Stop):
            learned(tiny, pictures, dogs, on_step, precision=precision)
    else:
        learned(tiny, pictures, dogs, on_step, precision=precision)
    assert not torch.equal(previews[0][1], previews[1][1])
    assert_same(sample(tiny, "a photo of a dog"), before)
    now = weights(tiny.model)
    assert all(torch.equal(kept[key], now[key]) for key in kept)


def test_previews_change_nothing(tiny_sd1, pictures, dogs):
    def preview(report):
        with report.backbone.paused():
            sample(tiny_sd1, "a dog")

    plain = learned(tiny_sd1, pictures, dogs).concept
    assert same_concept(plain, learned(tiny_sd1, pictures, dogs, preview).concept)


def test_prior_weight_0_needs_no_class_pictures(tiny_sd1, pictures, dogs, monkeypatch):
    with_them = learned(tiny_sd1, pictures, dogs, steps=1).losses
    monkeypatch.setattr(ClassPictures, "make", None)
    without = learned(tiny_sd1, pictures, [], steps=1, prior_weight=0.0).losses
    assert set(without) == {"loss", "denoising"}
    assert without["denoising"] == pytest.approx(with_them["denoising"], rel=1e-5)


# --- zoomed pictures --------------------------------------------------------------------------


def zoomed_batch(tiny, pictures):
    """A learner that zooms, and its batch of many."""
    config = cd(zoom=True, batch_size=40, prior_weight=0.0, templates="photo of a {}\na {}")
    backbone = Backbone(tiny.model, tiny.clip)
    sources = Sources(model=tiny.model, clip=tiny.clip, vae=tiny.vae, images=pictures)
    seen = CustomDiffusion.prepare(config, sources, backbone)
    with backbone.session(seen.batch_shape(40)):
        learner = CustomDiffusion(config, backbone, seen)
        generator = torch.Generator().manual_seed(3)
        return learner, backbone, learner.draw(backbone, generator).to(device())


def test_the_prompt_says_how_a_picture_is_zoomed(tiny_sd1, pictures):
    learner, _, batch = zoomed_batch(tiny_sd1, pictures)
    batch = batch.to(torch.device("cpu"))
    kinds = learner.pictures.zooms.numbers[batch.index]
    assert {0, 3} < set(kinds.tolist()) and torch.equal(batch.prompt // 2, kinds)
    small = (kinds == 1) | (kinds == 2)
    seen = batch.visible.mean(dim=(1, 2, 3))
    assert small.any() and (seen[small] < 0.6**2).all() and (seen[~small] == 1).all()
    assert len(learner.table) == 2 * 5


def test_only_what_is_visible_of_a_picture_counts(tiny_sd1, pictures):
    learner, backbone, batch = zoomed_batch(tiny_sd1, pictures)
    with backbone.session(LATENTS), torch.no_grad():
        context = learner.context(backbone, batch)
        errors = squared_errors(backbone, batch, context)
        loss = learner.loss(backbone, batch)["denoising"]
    rows = [e[:, v[0] > 0].mean() for e, v in zip(errors, batch.visible, strict=True)]
    assert loss.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)


def test_mirrored_pictures_are_visible_where_they_are(tiny_sd1, pictures):
    learner, _, batch = zoomed_batch(tiny_sd1, pictures)
    batch = batch.to(torch.device("cpu"))
    own = learner.pictures.zooms.visible[batch.index]
    assert batch.mirrored.any() and not torch.equal(own, own.flip(-1))
    assert torch.equal(batch.visible[batch.mirrored], own[batch.mirrored].flip(-1))


def test_a_caption_says_how_its_picture_is_zoomed(tiny_sd1, pictures):
    config, backbone = cd(zoom=True, prior_weight=0.0), Backbone(tiny_sd1.model, tiny_sd1.clip)
    sources = Sources(
        model=tiny_sd1.model, clip=tiny_sd1.clip, vae=tiny_sd1.vae, images=pictures,
        captions=["a dog on grass", ""],
    )  # fmt: skip
    seen = CustomDiffusion.prepare(config, sources, backbone)
    with backbone.session(LATENTS):
        learner = CustomDiffusion(config, backbone, seen)
        first = seen.zooms.sources == 0
        assert torch.equal(here(learner.captioned) >= 0, first)
        far = int((first & (seen.zooms.numbers == 1)).nonzero()[0])
        ids = learner.table.ids[learner.captioned[far], :, 0].tolist()
        start = backbone.text.tokenize("a far away ")
    assert ids[1 : 1 + len(start)] == [t[0] for t in start]


def test_zoomed_trainings_repeat(tiny_sd1, pictures):
    one, same = (
        learned(tiny_sd1, pictures, [], zoom=True, prior_weight=0.0, steps=1).concept
        for _ in range(2)
    )
    assert same_concept(one, same)


# --- pictures of the class --------------------------------------------------------------------


def test_class_pictures_are_those_of_ddim_with_eta_1():
    """One step of the host's ancestral Euler sampler is one of DDIM (Song et al. 2021, eq. 12)."""
    from comfy.k_diffusion.sampling import get_ancestral_step
    from diffusers import DDIMScheduler

    assert SAMPLING["sampler"] == "euler_ancestral"
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(50)
    x, eps, noise = torch.randn(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, after = (int(scheduler.timesteps[n]) for n in (10, 11))
    wanted = scheduler.step(eps, t, x, eta=1.0, variance_noise=noise).prev_sample
    alpha, alpha_after = (scheduler.alphas_cumprod[n] for n in (t, after))
    sigma, sigma_after = ((1 / a - 1) ** 0.5 for a in (alpha, alpha_after))
    down, up = get_ancestral_step(sigma, sigma_after, 1.0)
    ours = (x / alpha**0.5 + eps * (down - sigma) + noise * up) * alpha_after**0.5
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_the_hosts_uniform_ddim_schedule_is_the_programs(tiny_sd1):
    from comfy.samplers import calculate_sigmas

    sampling = tiny_sd1.model.get_model_object("model_sampling")
    sigmas = calculate_sigmas(sampling, SAMPLING["scheduler"], SAMPLING["steps"])
    steps = torch.arange(981, 0, -20)  # 50 of them, 1 in the end
    assert torch.equal(here(sigmas[:-1]), here(sampling.sigmas)[steps].to(sigmas.dtype))


def self_made(tiny, pictures, folder, counts=None, **changes):
    told = counts if counts is not None else []
    material = {"prior_folder": folder, "on_prior": lambda *count: told.append(count)}
    settings = {"prior_count": 6, "steps": 1} | changes
    return learned(tiny, pictures, None, material=material, **settings).concept


def test_class_pictures_are_made_once(tiny_sd1, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLING, "steps", 2)
    counts = []
    one = self_made(tiny_sd1, pictures, tmp_path, counts)
    assert counts == [(0, 6), (4, 6), (6, 6)]
    files = sorted(tmp_path.glob("*/*.png"))
    assert [f.name for f in files] == [f"{n:05d}.png" for n in range(8)]
    times = [f.stat().st_mtime_ns for f in files]
    assert same_concept(one, self_made(tiny_sd1, pictures, tmp_path))
    assert [f.stat().st_mtime_ns for f in files] == times
    files[1].unlink()  # a chunk that was cut off is made again, and comes out the same
    kept = files[0].read_bytes()
    assert same_concept(one, self_made(tiny_sd1, pictures, tmp_path))
    assert files[0].read_bytes() == kept and files[1].exists()
    assert same_concept(one, self_made(tiny_sd1, pictures, None))


def other_pixels(path):
    with Image.open(path) as image:
        image.point(lambda value: 255 - value).save(path, pnginfo=png_text(image))


def png_text(image):
    text = PngInfo()
    for key, value in image.text.items():
        text.add_text(key, value)
    return text


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: Image.new("RGB", (8, 8)).save(path),
        other_pixels,
    ],
    ids=["cut off", "empty", "another size", "other pixels"],
)
def test_damaged_class_pictures_are_made_again(
    damage, tiny_sd1, pictures, tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(SAMPLING, "steps", 2)
    one = self_made(tiny_sd1, pictures, tmp_path)
    first = min(tmp_path.glob("*/*.png"))
    kept = first.read_bytes()
    damage(first)
    assert same_concept(one, self_made(tiny_sd1, pictures, tmp_path))
    assert first.read_bytes() == kept
    assert f"The picture {first} is made again: " in caplog.text


def test_class_pictures_of_earlier_versions_are_read(tiny_sd1, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLING, "steps", 2)
    one = self_made(tiny_sd1, pictures, tmp_path)
    for path in tmp_path.glob("*/*.png"):
        with Image.open(path) as image:
            image.save(path)  # without its digest
    monkeypatch.setattr(ClassPictures, "_sample", None)
    assert same_concept(one, self_made(tiny_sd1, pictures, tmp_path))


def test_class_pictures_that_the_disk_does_not_take_are_used(
    tiny_sd1, pictures, tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(SAMPLING, "steps", 2)
    one = self_made(tiny_sd1, pictures, None)
    (tmp_path / "file").touch()
    assert same_concept(one, self_made(tiny_sd1, pictures, tmp_path / "file"))
    assert "are used and not kept: " in caplog.text


def test_another_model_class_size_or_seed_has_its_own_pictures(
    tiny_sd1, pictures, tmp_path, monkeypatch
):
    monkeypatch.setitem(SAMPLING, "steps", 1)
    lora = tiny_sd1.model.clone()
    lora.add_patches({weight_key(LORA): ("diff", (torch.full((32, 64), 0.1),))})
    for models, changes in (
        (tiny_sd1, {}),
        (tiny_sd1, {"class_word": "cat"}),
        (tiny_sd1, {"resolution": 72}),
        (tiny_sd1, {"train_seed": 4}),
        (replace(tiny_sd1, model=lora), {}),
    ):
        before = len(list(tmp_path.iterdir()))
        self_made(models, pictures, tmp_path, prior_count=1, **changes)
        assert len(list(tmp_path.iterdir())) == before + 1


def test_a_cancel_while_class_pictures_are_made(tiny_sd1, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLING, "steps", 1)

    def cancel(made, count):
        if made == 4:
            raise Stop

    before = sample(tiny_sd1, "a dog")
    with pytest.raises(Stop):
        learned(
            tiny_sd1, pictures, None, prior_count=8,
            material={"prior_folder": tmp_path, "on_prior": cancel},
        )  # fmt: skip
    assert len(list(tmp_path.glob("*/*.png"))) == 4
    assert_same(sample(tiny_sd1, "a dog"), before)


# --- the concept in use -----------------------------------------------------------------------


@torch.inference_mode()
def loaded_weight(model, path=LORA):
    from comfy.model_management import load_models_gpu

    load_models_gpu([model], force_full_load=True)
    return here(model.get_model_object(weight_key(path))).float().clone()


def test_the_applied_concept_is_what_was_trained(tiny_sd1, pictures, dogs):
    """The session's own prediction, with its trained weights and word, against a stock sampling."""
    seen, batch = {}, make_batch(prompt=(0, 0))

    def on_step(report):
        if report.step == 3:
            with torch.no_grad():
                context = report.learner.context(report.backbone, batch)
                seen["context"] = context
                seen["out"] = report.backbone.denoiser.predict(
                    batch.x0, batch.noise, batch.t, context
                )

    concept = learned(tiny_sd1, pictures, dogs, on_step, learning_rate=5e-3).concept
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    trained = seen["context"].rows[0]
    assert close(encode(clip, "photo of a <my-dog>")[0][0], trained)
    backbone = Backbone(model, tiny_sd1.clip)
    with backbone.session(LATENTS), torch.no_grad():
        out = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, seen["context"])
    plain = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with plain.session(LATENTS), torch.no_grad():
        untrained = plain.denoiser.predict(batch.x0, batch.noise, batch.t, seen["context"])
    effect = (untrained - seen["out"]).norm()
    assert effect > 0.01 * seen["out"].norm()
    assert (out - seen["out"]).norm() < 0.02 * effect


def test_the_placeholder_is_the_word_and_the_class_word(tiny_sd1, concept):
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    word = replace(concept, method=methods.TEXTUAL_INVERSION, tensors={})
    _, alone = apply_concept(tiny_sd1.model, tiny_sd1.clip, word)
    prompt = "photo of a {} on the beach"
    assert_same(
        encode(clip, prompt.format("<my-dog>")), encode(alone, prompt.format("<my-dog> dog"))
    )
    assert_same(encode(clip, "a dog"), encode(tiny_sd1.clip, "a dog"))


def test_strength(tiny_sd1, concept):
    model, clip = tiny_sd1.model, tiny_sd1.clip
    none, stock = apply_concept(model, clip, concept, 0.0)
    assert none is model
    assert_same(encode(stock, "a <my-dog> here"), encode(clip, "a dog here"))
    start, difference = loaded_weight(model), weight_differences(concept)[LORA]
    for strength in (0.5, 1.0, 1.7):
        applied, _ = apply_concept(model, clip, concept, strength)
        moved = loaded_weight(applied) - start
        assert relative(moved, strength * difference) < 0.02  # the weights are fp16
    assert torch.equal(loaded_weight(model), start)


def test_adds_to_a_lora_on_the_same_weights_in_either_order(tiny_sd1, concept):
    lora = {weight_key(LORA): ("diff", (torch.randn(32, 64) * 0.1,))}
    difference, start = weight_differences(concept)[LORA], loaded_weight(tiny_sd1.model)
    before = tiny_sd1.model.clone()
    before.add_patches(lora)
    first = apply_concept(before, tiny_sd1.clip, concept)[0]
    then = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)[0].clone()
    then.add_patches(lora)
    wanted = start + difference + lora[weight_key(LORA)][1][0]
    for model in (first, then):
        assert relative(loaded_weight(model), wanted) < 1e-3


def test_is_learned_beside_a_lora_that_stays(tiny_sd1, pictures, dogs):
    """Differences are to the weights with the LoRA, so the LoRA is in none of them."""
    lora = tiny_sd1.model.clone()
    lora.add_patches({weight_key(LORA): ("diff", (torch.full((32, 64), 0.5),))})
    concept = learned(replace(tiny_sd1, model=lora), pictures, dogs).concept
    assert weight_differences(concept)[LORA].abs().max() < 0.01


def test_save_and_load(concept, tmp_path):
    path = tmp_path / "dog.safetensors"
    save_concept(concept, path)
    loaded = load_concept(path)
    assert same_concept(concept, loaded) and loaded.method is methods.CUSTOM_DIFFUSION
    with pytest.raises(ConceptFileError, match="more than a word"):
        save_embedding(concept, tmp_path / "word.safetensors")


def test_two_concepts_add_up(tiny_sd1, concept):
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    both, clip = apply_concept(model, clip, concept.renamed("<cat>"))
    start, difference = loaded_weight(tiny_sd1.model), weight_differences(concept)[LORA]
    assert relative(loaded_weight(both) - start, 2 * difference) < 0.02
    assert_differ(encode(clip, "a <my-dog>"), encode(clip, "a dog"))


# --- compressed -------------------------------------------------------------------------------


def test_compression_is_the_best_of_its_rank(tiny_sd1, concept, tmp_path):
    full = weight_differences(concept)
    errors = []
    for rank in (1, 8, 64):
        small, error = compressed(concept, rank)
        errors.append(error)
        kept = weight_differences(small)
        tails = [torch.linalg.svdvals(m)[rank:].square().sum().item() for m in full.values()]
        whole = sum(m.square().sum().item() for m in full.values())
        assert error == pytest.approx((sum(tails) / whole) ** 0.5, abs=2e-3)
        assert all(kept[path].shape == full[path].shape for path in full)
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3
    save_concept(small, tmp_path / "small.safetensors")
    assert same_concept(small, load_concept(tmp_path / "small.safetensors"))
    model, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, small)
    moved = loaded_weight(model) - loaded_weight(tiny_sd1.model)
    assert relative(moved, full[LORA]) < 0.02


def test_a_concept_of_words_cannot_be_compressed(concept):
    with pytest.raises(PersonalizeError, match="has no weights to compress. Set rank to 0"):
        compressed(replace(concept, tensors={}), 4)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_word": " "}, "class_word is empty"),
        ({"prior_weight": -1.0}, "prior_weight of 0 or more"),
        ({"prior_count": 0}, "prior_count of 1 or more.*set prior_weight to 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        cd(**changes)


def test_bad_class_pictures_are_named(tiny_sd1, pictures):
    bad = {"prior_images": [torch.rand(1, 64, 64, 3), torch.rand(1, 64, 20, 3)]}
    with pytest.raises(PictureError, match="Prior picture 2 has 20 x 64 pixels"):
        learned(tiny_sd1, pictures, None, material=bad)


def test_an_init_word_of_two_tokens_is_refused(tiny_sd1, pictures, dogs):
    with pytest.raises(TrainingError, match="'ktn' is 2 tokens"):
        learned(tiny_sd1, pictures, dogs, init_word="ktn")


def test_too_little_memory_names_what_to_lower(tiny_sd1, pictures, dogs, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CustomDiffusion, "loss", full)
    with pytest.raises(
        TrainingError, match="2 pictures at once at resolution 64. Set micro_batch to 1"
    ):
        learned(tiny_sd1, pictures, dogs)


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.zeros(32, 63), ConceptFileError, "difference of shape.*expected"),
        (torch.full((32, 64), float("nan")), ConceptFileError, "NaN or infinite"),
        (torch.zeros(31, 64), BaseModelError, "has as \\(32, 64\\)"),
    ],
)
def test_differences_that_cannot_be(tiny_sd1, concept, tensor, error, message):
    bad = replace(concept, tensors={f"difference.{LORA}": tensor})
    with pytest.raises(error, match=message):
        apply_concept(tiny_sd1.model, tiny_sd1.clip, bad)


def test_half_of_a_compressed_weight(tiny_sd1, concept):
    small, _ = compressed(concept, 2)
    tensors = {k: t for k, t in small.tensors.items() if k != f"difference.{LORA}.down"}
    with pytest.raises(ConceptFileError, match="half of a compressed weight"):
        apply_concept(tiny_sd1.model, tiny_sd1.clip, replace(small, tensors=tensors))
    elsewhere = {"difference.input_blocks.9.1.attn2.to_k": torch.zeros(32, 64)}
    with pytest.raises(BaseModelError, match="which this MODEL lacks"):
        apply_concept(tiny_sd1.model, tiny_sd1.clip, replace(concept, tensors=elsewhere))
