"""DETEX: each term against plain torch and diffusers, its switches, its words in prompts."""

import logging
from dataclasses import replace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.differences import weight_differences
from personalize.concepts.errors import BaseModelError, PersonalizeError, TrainingError
from personalize.concepts.files import load_concept, save_concept
from personalize.host.attention_maps import AttentionReader, nearest_side, word_attention
from personalize.host.backbone import Backbone
from personalize.host.conditioning import Conditioning
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import close, device, here, same, there
from personalize.tests.elite_models import clip_vision
from personalize.tests.stock import assert_differ, assert_same, encode
from personalize.tests.test_custom_diffusion import no_cd_pictures, projections_of, same_concept
from personalize.tests.training.test_learn import sample, train, weights
from personalize.tests.training.test_parity import (
    drawn,
    make_batch,
    no_pictures,
    relative,
    shape_of,
    tokenizer_folder,
)
from personalize.training.custom_diffusion import CustomDiffusion, CustomDiffusionConfig
from personalize.training.detex import Detex, DetexBatch, DetexConfig, DetexPictures

pytestmark = pytest.mark.host

LATENTS = (2, 4, 8, 8)
SIDE = 4  # of the maps: half the side of the latents


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vision():
    return clip_vision()


def disc(count=2, height=64, width=70):
    """Masks of a disc at another place in each picture."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack(
        [(((y - 30) ** 2 + (x - 24 - 8 * n) ** 2) < 250).float() for n in range(count)]
    )


@pytest.fixture(scope="module")
def pictures():
    return [noise(2, 64, 70, 3, seed=1)]


@pytest.fixture(scope="module")
def material(vision):
    dogs = [noise(2, 80, 66, 3, seed=2)]
    return {"prior_images": dogs, "masks": [disc()], "clip_vision": vision}


def detex(**changes):
    settings = {"class_word": "dog", "steps": 3, "batch_size": 2, "resolution": 64}
    settings |= {"learning_rate": 1e-3, "rank": 0}
    return DetexConfig(placeholder="<my-dog>", **settings | changes)


def learned(tiny, pictures, material, *args, **changes):
    return train(tiny, detex(**changes), pictures, *args, **material)


@pytest.fixture(scope="module")
def concept(tiny_sd1, pictures, material):
    return learned(tiny_sd1, pictures, material, learning_rate=5e-3).concept


def views(count=2):
    return DetexPictures(
        **vars(no_pictures(count)),
        prior=None,
        embeddings=noise(count, 16, seed=3) - 0.5,
        masks=disc(count, 64, 64),
        blanked=None,
    )


def detex_batch(removed=(False, True), prior=True):
    """Row 0 is picture 1, row 1 is picture 0."""
    batch = replace(make_batch(), index=torch.tensor([1, 0]))
    blanked = noise(*LATENTS, seed=4) - 0.5
    chance = torch.tensor([0.0 if r else 0.99 for r in removed])
    class_batch = make_batch(seed=9) if prior else None
    made = DetexBatch(**vars(batch), prior=class_batch, blanked=blanked, chance=chance)
    return made.to(device())


# --- one step against plain torch and diffusers -----------------------------------------------


class Recording:
    """diffusers' plain attention, which keeps its probabilities; nothing is learned through the
    first token, as in its CustomDiffusionAttnProcessor."""

    def __init__(self):
        self.probabilities = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        q = attn.head_to_batch_dim(attn.to_q(hidden_states))
        rows = [to(encoder_hidden_states) for to in (attn.to_k, attn.to_v)]
        rows = [torch.cat([row[:, :1].detach(), row[:, 1:]], dim=1) for row in rows]
        k, v = map(attn.head_to_batch_dim, rows)
        scores = attn.get_attention_scores(q, k)
        self.probabilities = scores.unflatten(0, (len(hidden_states), -1))
        return attn.to_out[0](attn.batch_to_head_dim(scores @ v))


def distance(row, target, norm):
    if norm == "norm":
        return ((row - target) ** 2).sum() ** 0.5
    row = row / row.max() if norm == "by maximum" else row
    return ((row - target) ** 2).mean()


class Plain:
    """DETEX by diffusers, transformers and torch alone."""

    def __init__(self, tiny):
        from personalize.tests.training import reference as plain

        shape = shape_of(tiny.kind)
        self.models = plain.reference(tiny.path, shape, tokenizer_folder(), words=5)
        self.records = {}
        for name, module in self.models.unet.named_modules():
            if name.endswith(".attn2"):
                self.records[name] = Recording()
                module.set_processor(self.records[name])

    def mapper(self, parameters):
        width = parameters["2.bias"].shape[0]
        net = torch.nn.Sequential(
            torch.nn.Linear(16, 16), torch.nn.LeakyReLU(), torch.nn.Linear(16, 16),
            torch.nn.LeakyReLU(), torch.nn.Linear(16, width),
        )  # fmt: skip
        own = {f"{2 * int(k[0])}{k[1:]}": here(p.detach()).clone() for k, p in parameters.items()}
        net.load_state_dict(own)
        return net

    def losses(self, word, mappers, seen, batch, removed, weights, norm):
        """The terms, weighted; rows are pictures 1 and 0."""
        p, b = (net(seen.embeddings) for net in mappers)
        words = torch.cat([word, p, b])
        prompts, places = [], []
        for row, picture in enumerate((1, 0)):
            text = f"photo of a <v0> dog with <v{1 + picture}> pose"
            places.append([7, 10])  # BOS photo of a v dog with P pose in B
            prompts.append(text if removed[row] else f"{text} in <v{3 + picture}> background")
        x0 = torch.stack(
            [(batch.blanked if gone else batch.x0)[row] for row, gone in enumerate(removed)]
        )
        terms = {"denoising": self.models.loss(words, prompts, x0, batch.noise, batch.t)}
        maps = [
            r.probabilities.mean(dim=1) for r in self.records.values()
            if r.probabilities.shape[2] == SIDE**2
        ]  # fmt: skip
        mean = torch.stack(maps).mean(dim=0)  # (B, 16, 77)
        attention = 0.0
        for row, picture in enumerate((1, 0)):
            m = seen.masks[picture].unflatten(0, (SIDE, -1)).unflatten(2, (SIDE, -1))
            m = m.mean(dim=(1, 3)).flatten()
            attention += distance(mean[row, :, places[row][0]], m, norm)
            if not removed[row]:
                attention += distance(mean[row, :, places[row][1]], 1 - m, norm)
        prior = batch.prior
        loss = self.models.loss(word, ["photo of a dog"] * 2, prior.x0, prior.noise, prior.t)
        terms["prior"] = weights["prior_weight"] * loss
        terms["attention"] = weights["attention_weight"] * attention / 2
        return terms


@pytest.mark.parametrize(
    ("removed", "norm"),
    [((False, True), "norm"), ((False, False), "by maximum"), ((True, True), "mean square")],
)
def test_terms_and_gradients_equal_a_plain_computation(every_tiny, removed, norm):
    tiny = every_tiny
    plain, seen = Plain(tiny), views()
    backbone, batch = Backbone(tiny.model, tiny.clip), detex_batch(removed)
    weights_ = {"prior_weight": 0.7, "attention_weight": 3.0}
    with backbone.session((4, *LATENTS[1:])):
        learner = Detex(detex(attention_norm=norm, **weights_), backbone, seen)
        theirs = projections_of(plain.models.unet, learner.projections.parameters)
        terms, parameters = learner.loss(backbone, batch), learner.parameters
        gradients = torch.autograd.grad(
            sum(terms.values()), list(parameters.values()), allow_unused=True
        )
    word = here(learner.word.detach()).clone().requires_grad_()
    mappers = [plain.mapper(part.parameters) for part in (learner.pose, learner.background)]
    on_cpu = batch.to(torch.device("cpu"))
    expected = plain.losses(word, mappers, seen, on_cpu, removed, weights_, norm)
    assert terms.keys() == expected.keys()
    for name, loss in expected.items():
        assert terms[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    by_name = {"words": word, **theirs}
    for name, net in zip(("pose", "background"), mappers, strict=True):
        for key, parameter in net.named_parameters():
            by_name[f"{name}.{int(key[0]) // 2}{key[1:]}"] = parameter
    wanted = torch.autograd.grad(sum(expected.values()), list(by_name.values()), allow_unused=True)
    wanted = dict(zip(by_name, wanted, strict=True))
    assert wanted.keys() == parameters.keys()
    for name, gradient in zip(parameters, gradients, strict=True):
        if all(removed) and name.startswith("background"):
            assert gradient is None or not gradient.any()
            continue
        assert wanted[name].norm() > 1e-6, name
        assert relative(gradient, wanted[name]) < 1e-4, name


def test_maps_equal_diffusers_attention(tiny_base):
    tiny = tiny_base
    plain = Plain(tiny)
    backbone, batch = Backbone(tiny.model, tiny.clip), make_batch()
    with backbone.session(LATENTS), torch.no_grad():
        reader = backbone.attention_reader(SIDE)
        width = backbone.text.width
        context = there(torch.randn(2, 77, width, generator=torch.Generator().manual_seed(5)))
        pooled = there(torch.randn(2, 96, generator=torch.Generator().manual_seed(6)))
        conditioning = Conditioning(context, pooled if tiny.kind == "sdxl" else None)
        with reader.reading():
            backbone.denoiser.predict(batch.x0, batch.noise, batch.t, conditioning)
        places = torch.tensor([[3, 9], [1, 76]])
        maps = here(reader.word_maps(there(places)))
    told = here((context, pooled) if tiny.kind == "sdxl" else context)
    plain.models.denoising_loss(told, *drawn(batch))
    kept = [r.probabilities for r in plain.records.values()]
    kept = [p.mean(dim=1) for p in kept if p.shape[2] == SIDE**2]
    assert len(kept) == len(reader.layers) > 1
    mean = torch.stack(kept).mean(dim=0)
    for row in range(2):
        for n in range(2):
            theirs = mean[row, :, places[row, n]].view(SIDE, SIDE)
            assert relative(maps[row, n], theirs) < 1e-4


def test_reading_changes_nothing(tiny_sd1):
    backbone, batch = Backbone(tiny_sd1.model, tiny_sd1.clip), make_batch()
    with backbone.session(LATENTS), torch.no_grad():
        context = there(torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(5)))
        plain = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, Conditioning(context))
        reader = backbone.attention_reader(SIDE)
        with reader.reading():
            read = backbone.denoiser.predict(batch.x0, batch.noise, batch.t, Conditioning(context))
        assert torch.equal(plain, read)
        assert not any(m._forward_hooks for m in tiny_sd1.model.model.modules())


def test_word_attention_is_the_share_of_a_word():
    q, k = noise(2, 9, 8, seed=6), noise(2, 5, 8, seed=7)
    shares = word_attention(q, k, 2, torch.arange(5).expand(2, 5))
    assert shares.shape == (2, 5, 9)
    assert torch.allclose(shares.sum(dim=1), torch.ones(2, 9))


@pytest.mark.parametrize(
    ("sides", "wanted", "nearest"),
    [([64, 32, 16], 32, 32), ([64, 16], 32, 64), ([8, 4], 16, 8), ([16, 8], 4, 8), ([7], 8, 7)],
)
def test_nearest_side(sides, wanted, nearest):
    assert nearest_side(sides, wanted) == nearest


def test_another_resolution_is_said_in_the_log(tiny_sd1, caplog):
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with backbone.session(LATENTS), caplog.at_level(logging.WARNING):
        assert len(backbone.attention_reader(SIDE).layers) == 4
        assert not caplog.records
        assert len(backbone.attention_reader(16).layers) == 3
    assert "no cross attention at 16 x 16; attention maps are read at 8 x 8" in caplog.text


def test_a_model_without_cross_attention_is_refused(tiny_sd1, monkeypatch):
    from personalize.host import backbone as module

    monkeypatch.setattr(module, "cross_attentions", lambda unet: {})
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with backbone.session(LATENTS), pytest.raises(BaseModelError, match="no cross attention"):
        backbone.attention_reader(SIDE)


def test_gradient_checkpointing_gives_the_same_gradients(tiny_sd1):
    def gradients(**options):
        backbone = Backbone(tiny_sd1.model, tiny_sd1.clip, **options)
        with backbone.session((4, *LATENTS[1:])):
            learner = Detex(detex(attention_weight=1.0), backbone, views())
            loss = sum(learner.loss(backbone, detex_batch()).values())
            return torch.autograd.grad(loss, list(learner.parameters.values()))

    for one, other in zip(gradients(), gradients(gradient_checkpointing=True), strict=True):
        assert same(one, other)


# --- what the switches reduce to --------------------------------------------------------------


def terms_of(tiny, batch, seen=None, **changes):
    backbone = Backbone(tiny.model, tiny.clip)
    with backbone.session((4, *LATENTS[1:])), torch.no_grad():
        learner = Detex(detex(**changes), backbone, seen or views())
        return {name: term.item() for name, term in learner.loss(backbone, batch).items()}


def test_attention_weight_0_reads_no_maps(tiny_sd1, monkeypatch):
    whole = terms_of(tiny_sd1, detex_batch())
    monkeypatch.setattr(AttentionReader, "reading", None)
    without = terms_of(tiny_sd1, detex_batch(), attention_weight=0.0)
    assert set(whole) == {"denoising", "prior", "attention"}
    assert without == {name: whole[name] for name in ("denoising", "prior")}


def test_prior_weight_0_and_no_class_pictures(tiny_sd1, pictures, material):
    whole = terms_of(tiny_sd1, detex_batch())
    alone = terms_of(tiny_sd1, detex_batch(prior=False), prior_weight=0.0)
    assert set(alone) == {"denoising", "attention"}
    assert all(alone[name] == pytest.approx(whole[name], rel=1e-5) for name in alone)
    none_given = material | {"prior_images": []}
    losses = learned(tiny_sd1, pictures, none_given, steps=1, prior_weight=0.0).losses
    assert set(losses) == {"loss", "denoising", "attention"}


def test_gamma_0_never_and_gamma_1_always_removes_the_background(tiny_sd1):
    batch = replace(detex_batch(), chance=there(torch.tensor([0.0, 0.999])))
    for gamma, removed in ((0.0, False), (1.0, True)):
        chances = there(torch.tensor([0.0 if removed else 0.999] * 2))
        wanted = terms_of(tiny_sd1, replace(batch, chance=chances), mask_probability=0.5)
        assert terms_of(tiny_sd1, batch, mask_probability=gamma) == wanted


def test_without_attention_removal_and_attributes_it_is_custom_diffusion(tiny_sd1):
    """The same prompt, projections and prior: the same loss and gradients of them."""
    seen, batch = views(1), replace(detex_batch(), index=there(torch.tensor([0, 0])))
    batch = replace(batch, prompt=there(torch.tensor([0, 0])))
    options = {"attention_weight": 0.0, "mask_probability": 0.0, "mappers": False}
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with backbone.session((4, *LATENTS[1:])):
        ours = Detex(detex(**options), backbone, seen)
        fixed = backbone.text.embed(there(torch.tensor(backbone.text.tokenize("red big"))))
        with torch.no_grad():
            ours.pose.start.copy_(fixed[:1])
            ours.background.start.copy_(fixed[1:])
        mine = ours.loss(backbone, batch)
        mine_kv = torch.autograd.grad(
            sum(mine.values()), list(ours.projections.parameters.values())
        )
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with backbone.session((4, *LATENTS[1:])):
        config = CustomDiffusionConfig(
            placeholder="<x>", class_word="dog", resolution=64,
            templates="photo of a {} with red pose in big background",
        )  # fmt: skip
        theirs = CustomDiffusion(config, backbone, no_cd_pictures())
        terms = theirs.loss(backbone, batch)
        their_kv = torch.autograd.grad(
            sum(terms.values()), list(theirs.projections.parameters.values())
        )
    for name in ("denoising", "prior"):
        assert mine[name].item() == pytest.approx(terms[name].item(), rel=1e-6)
    assert all(relative(a, b) < 1e-5 for a, b in zip(mine_kv, their_kv, strict=True))


def test_masked_out_pixels_give_no_gradient_when_the_background_is_removed(
    tiny_sd1, pictures, material, monkeypatch
):
    """With gamma 1 the background may be anything; its image embedding is held here."""
    from personalize.training import detex as module

    held = noise(2, 16, seed=3)
    monkeypatch.setattr(module, "image_embeddings", lambda *_: held)
    mask = material["masks"][0][..., None]
    other = [pictures[0] * mask + noise(2, 64, 70, 3, seed=8) * (1 - mask)]
    for gamma, alike in ((1.0, True), (0.5, False)):
        pair = [
            learned(tiny_sd1, images, material, mask_probability=gamma).concept
            for images in (pictures, other)
        ]
        assert same_concept(*pair) == alike


def test_without_mappers_the_words_themselves_are_trained(tiny_sd1, pictures, material):
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    with backbone.session(LATENTS):
        mapped, free = (Detex(detex(mappers=m), backbone, views()) for m in (True, False))
        assert torch.equal(mapped.pose.words(), free.pose.words())
    assert {n for n in free.parameters if n.startswith("pose")} == {"pose.words"}
    norm = mapped.pose.words().norm(dim=1).mean().item()
    assert norm == pytest.approx(backbone.text.word_sizes()[0][1], rel=1e-5)
    learned(tiny_sd1, pictures, material, mappers=False)


# --- training ---------------------------------------------------------------------------------


def test_makes_a_concept_of_words_and_differences(tiny_base, pictures, material):
    tiny = tiny_base
    result = learned(tiny, pictures, material)
    concept = result.concept
    assert concept.method is methods.DETEX and concept.training["steps_taken"] == 3
    assert list(concept.words) == ["", "pose1", "pose2", "background1", "background2"]
    assert len(weight_differences(concept)) == (22 if concept.base == "sdxl" else 14)
    assert set(result.losses) == {"loss", "denoising", "prior", "attention"}


def test_the_loss_on_held_noise_falls(tiny_sd1, pictures, material):
    batch, seen = detex_batch((False, False)), []

    def on_step(report):
        with torch.no_grad():
            terms = report.learner.loss(report.backbone, batch)
        seen.append({name: term.item() for name, term in terms.items()})

    settings = {"steps": 12, "attention_weight": 30.0, "prior_weight": 0.0}
    settings |= {"learning_rate": 5e-3}
    learned(tiny_sd1, pictures, material, on_step, **settings)
    assert seen[-1]["attention"] < 0.9 * seen[0]["attention"]


def test_the_same_seed_gives_the_same_concept(tiny_sd1, pictures, material):
    one, same = (learned(tiny_sd1, pictures, material).concept for _ in range(2))
    assert same_concept(one, same)
    assert not same_concept(one, learned(tiny_sd1, pictures, material, train_seed=1).concept)


def test_other_masks_or_another_vision_encoder_are_another_training(
    tiny_sd1, pictures, material, tmp_path
):
    learned(tiny_sd1, pictures, material, lambda report: None, tmp_path)
    for changes in ({"masks": [disc().flip(1)]}, {"clip_vision": clip_vision(seed=1)}):
        seen = []
        on_step = lambda report, seen=seen: seen.append(report.step)  # noqa: E731
        learned(tiny_sd1, pictures, material | changes, on_step, tmp_path, True)
        assert seen == [1, 2, 3]


@pytest.mark.parametrize(("kind", "precision"), [("tiny_sd1", "auto"), ("tiny_sd2v", "bf16")])
def test_the_users_models_are_bit_equal_before_and_after(
    kind, precision, pictures, material, request
):
    tiny = request.getfixturevalue(kind)
    before, kept = sample(tiny, "a photo of a dog"), weights(tiny.model)

    def preview(report):
        with report.backbone.paused():
            applied = apply_concept(tiny.model, tiny.clip, report.learner.to_concept())
            sample(tiny, "a <my-dog> with <my-dog:pose1> pose", *applied)

    with_previews = learned(tiny, pictures, material, preview, precision=precision).concept
    assert same_concept(
        with_previews, learned(tiny, pictures, material, precision=precision).concept
    )
    assert_same(sample(tiny, "a photo of a dog"), before)
    now = weights(tiny.model)
    assert all(torch.equal(kept[key], now[key]) for key in kept)


def test_flips_mirror_the_masks(tiny_sd1):
    backbone, seen = Backbone(tiny_sd1.model, tiny_sd1.clip), views()
    with backbone.session(LATENTS):
        learner = Detex(detex(), backbone, seen)
    batch = replace(detex_batch(), mirrored=there(torch.tensor([True, False])))
    masks = here(learner.masks_of(batch, 64))
    assert torch.equal(masks[0], seen.masks[1].flip(-1)) and torch.equal(masks[1], seen.masks[0])


# --- in prompts -------------------------------------------------------------------------------


@torch.inference_mode()
def applied_clip(tiny, concept, strength=1.0):
    return apply_concept(tiny.model, tiny.clip, concept, strength)[1]


def test_attribute_words_in_stock_prompts(tiny_sd1, concept):
    clip = applied_clip(tiny_sd1, concept)
    prompts = [
        "photo of a <my-dog>",
        "photo of a <my-dog> with <my-dog:pose1> pose",
        "photo of a <my-dog> with <my-dog:pose2> pose",
        "photo of a <my-dog> with <my-dog:pose2> pose in <my-dog:background1> background",
        "photo of a cat with <my-dog:pose2> pose",
        "photo of a cat in <my-dog:background2> background",
    ]
    encoded = [encode(clip, prompt) for prompt in prompts]
    for n, one in enumerate(encoded):
        for other in encoded[:n]:
            assert_differ(one, other)
    assert_same(encode(clip, "a cat with a pose"), encode(tiny_sd1.clip, "a cat with a pose"))


def test_a_prompt_is_encoded_as_it_was_trained(tiny_sd1, pictures, material):
    seen, batch = {}, detex_batch((False, True))

    def on_step(report):
        if report.step == report.steps:
            learner = report.learner
            with torch.no_grad():
                seen["rows"] = learner.context(report.backbone, batch, learner.removed(batch)).rows

    concept = learned(tiny_sd1, pictures, material, on_step).concept
    clip = applied_clip(tiny_sd1, concept)
    full = "photo of a <my-dog> with <my-dog:pose2> pose in <my-dog:background2> background"
    for row, prompt in enumerate((full, "photo of a <my-dog> with <my-dog:pose1> pose")):
        assert close(encode(clip, prompt)[0][0], seen["rows"][row])


def test_strength_0_is_the_class_word_without_attributes(tiny_sd1, concept):
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 0.0)
    assert model is tiny_sd1.model
    prompt = "photo of a <my-dog> with <my-dog:pose2> pose"
    assert_same(encode(clip, prompt), encode(tiny_sd1.clip, "photo of a dog with  pose"))


def test_save_and_load(concept, tmp_path):
    save_concept(concept, tmp_path / "dog.safetensors")
    assert same_concept(concept, load_concept(tmp_path / "dog.safetensors"))


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_weight": -1.0}, "attention_weight of 0 or more"),
        ({"mask_probability": 1.1}, "mask_probability of 0 to 1"),
        ({"class_word": ""}, "class_word is empty"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        detex(**changes)


BAD_MASKS = {
    "fewer": ([disc(1)], "got 1 masks and 2 pictures"),
    "none": ([], "got 0 masks and 2 pictures"),
    "empty": ([disc(1), torch.zeros(1, 64, 70)], "Mask 2 .*is empty"),
    "of another shape": ([disc(2, 70, 64)], "Mask 1 has 64x70 pixels.*another shape"),
    "outside the crop": (
        [disc(1), torch.cat([torch.ones(1, 64, 2), torch.zeros(1, 64, 68)], dim=2)],
        "Mask 2 is empty within the centre square",
    ),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_masks_that_cannot_be(case, tiny_sd1, pictures, material):
    masks, message = BAD_MASKS[case]
    with pytest.raises(PersonalizeError, match=message):
        learned(tiny_sd1, pictures, material | {"masks": masks})


def test_masks_of_cut_outs_are_turned_over_and_told(tiny_sd1, pictures, material):
    """Load Image's MASK of a cut-out teaches the very concept that the subject's mask teaches."""
    told = []
    transparent = material | {"masks": [1 - disc()], "warn": told.append}
    one, other = (learned(tiny_sd1, pictures, m).concept for m in (material, transparent))
    assert same_concept(one, other)
    assert len(told) == 2 and all("turned over" in line for line in told)


def test_masks_of_another_size_are_resized(tiny_sd1, pictures, material):
    larger = material | {"masks": [disc().repeat_interleave(2, 1).repeat_interleave(2, 2)]}
    one, other = (learned(tiny_sd1, pictures, m).concept for m in (material, larger))
    assert same_concept(one, other)


def test_one_picture_works_with_a_warning(tiny_sd1, pictures, material, caplog):
    one = material | {"masks": [disc(1)]}
    concept = learned(tiny_sd1, [pictures[0][:1]], one).concept
    assert list(concept.words) == ["", "pose1", "background1"]
    assert "DETEX learns from one picture" in caplog.text


def test_another_kind_of_vision_encoder_is_refused(tiny_sd1, pictures, material):
    siglip = material | {"clip_vision": clip_vision(model_type="siglip_vision_model")}
    with pytest.raises(BaseModelError, match="siglip_vision_model.*Expected a CLIP vision"):
        learned(tiny_sd1, pictures, siglip)
    with pytest.raises(BaseModelError, match="Expected a CLIP vision"):
        learned(tiny_sd1, pictures, material | {"clip_vision": None})
