"""The networks are the host's: same keys, same function."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from personalize.miniature.comfy_pack.vocabulary import HOST_ROWS, full_table, unknown_rows
from personalize.miniature.models import clip, judges, vae
from personalize.miniature.train.loop import Plan, Run
from personalize.miniature.train.muon import orthogonalised


def test_widened_autoencoder_is_the_same_function() -> None:
    torch.manual_seed(0)
    narrow, wide = vae.Autoencoder(), vae.Autoencoder(((64,) * 4, (64,) * 4))
    wide.load_state_dict(vae.widened(narrow.state_dict()))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(narrow.encode(x), wide.encode(x), atol=1e-5)
        assert torch.allclose(
            narrow.decode(narrow.encode(x)), wide.decode(wide.encode(x)), atol=1e-5
        )


def test_a_grown_autoencoder_begins_as_the_same_function_and_all_of_it_learns() -> None:
    torch.manual_seed(0)
    narrow = vae.Autoencoder()
    wide = vae.grown(narrow)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        z = narrow.encode(x)
        assert torch.allclose(wide.encode(x), z, atol=1e-5)
        assert torch.allclose(wide.decode(z), narrow.decode(z), atol=1e-5)
    value, figures = vae.loss(wide, (x, z))
    value.backward()
    assert figures["moved"] < 0.05
    last = wide.get_parameter("taesd_decoder.19.weight")
    old = narrow.get_parameter("taesd_decoder.19.weight").shape[1]
    assert last.shape[1] > old and last.grad[:, old:].abs().sum() > 0
    assert vae.widened(wide.state_dict()).keys() == vae.widened(narrow.state_dict()).keys()


@pytest.mark.host
def test_widened_autoencoder_fits_the_host() -> None:
    from comfy.taesd.taesd import TAESD

    torch.manual_seed(0)
    narrow, host = vae.Autoencoder(), TAESD()
    missing, extra = host.load_state_dict(vae.widened(narrow.state_dict()), strict=False)
    assert set(missing) <= {"vae_scale", "vae_shift"}
    assert not extra
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(host.taesd_encoder(x), narrow.encode(x), atol=1e-4)
        assert torch.allclose(
            host.taesd_decoder(narrow.encode(x)), narrow.decode(narrow.encode(x)), atol=1e-4
        )


@pytest.mark.host
def test_text_tower_equals_the_hosts() -> None:
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    torch.manual_seed(1)
    shape = clip.Shape(text_layers=3)
    tower = clip.TextTower(shape, HOST_ROWS).eval()
    host = CLIPTextModel(shape.text_config(), torch.float32, "cpu", comfy.ops.manual_cast)
    state = {}
    for key, value in tower.state_dict().items():
        start = "" if key.startswith("text_projection") else "text_model."
        start += "embeddings." if "embedding" in key else ""
        state[start + key] = value
    host.load_state_dict(state)
    ids = torch.tensor([[49406, 320, 1125, 49407] + [49407] * 73])
    with torch.inference_mode():
        assert torch.allclose(host(ids)[0], tower.hidden(ids), atol=2e-5)


@pytest.mark.host
def test_vision_tower_equals_the_hosts() -> None:
    from personalize.miniature.comfy_pack.nodes import vision_model
    from personalize.miniature.train.export import vision_state

    torch.manual_seed(1)
    pair = clip.Pair(clip.Shape(), 8).eval()
    host = vision_model(clip.Shape().vision_config())
    missing, extra = host.load_sd(vision_state(pair.vision))
    assert not missing
    assert not extra
    picture = torch.rand(1, 128, 128, 3).mul(255).round().div(255)
    with torch.no_grad():
        ours = pair.vision.visual_projection(pair.vision.pooled(picture.movedim(-1, 1)))
    assert torch.allclose(host.encode_image(picture)["image_embeds"], ours, atol=2e-3)


@pytest.mark.host
def test_the_hosts_shape_of_the_text_encoder_is_that_of_the_training() -> None:
    """The pack that a ComfyUI loads cannot import it from here."""
    from personalize.miniature.comfy_pack.model import TEXT_CONFIG

    assert clip.Shape().text_config() == TEXT_CONFIG


def test_the_table_of_words_is_rebuilt() -> None:
    rows = torch.randn(4, 16)
    ids, first, last = (
        torch.tensor([5, 9, 700, 801]),
        torch.tensor([700, 701]),
        torch.tensor([801, 802]),
    )
    table = full_table(ids, rows, first, last)
    assert table.shape == (HOST_ROWS, 16)
    assert torch.equal(table[ids], rows)
    plain = unknown_rows(16)
    assert torch.equal(table[1234], plain[1234])
    assert torch.allclose(table[701], rows[2] + 0.5 * plain[701])
    assert plain.abs().max() > 0
    assert 0.04 < float(plain.std()) < 0.08


def test_unknown_rows_never_change() -> None:
    """Numbers that committed weights rely on."""
    rows = unknown_rows(128)
    assert len(rows.unique(dim=0)) == HOST_ROWS
    assert torch.allclose(rows[:2, :2], torch.tensor(FIXED), atol=1e-6)


FIXED = [[-0.0121092, -0.0404937], [0.0532561, 0.0538775]]


def test_orthogonalised_has_even_singular_values() -> None:
    values = torch.linalg.svdvals(orthogonalised(torch.randn(24, 60)).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_a_resumed_training_ends_bit_equal(tmp_path) -> None:
    def batches(step: int):
        while True:
            yield (torch.randn(4, 8, generator=torch.Generator().manual_seed(step)),)
            step += 1

    def loss(net, batch):
        return (net(batch[0]) + 0.1 * torch.randn(4, 3)).square().mean(), {}

    def run(path, until: int = 6) -> Run:
        torch.manual_seed(0)
        plan = Plan(6, warmup=1, log_every=100, muon=True)
        result = Run(path, torch.nn.Linear(8, 3), plan, torch.device("cpu"))

        def stopping_loss(net, batch):
            if result.step + 1 == until < plan.steps:
                signal.raise_signal(signal.SIGTERM)
            return loss(net, batch)

        result.train(batches, stopping_loss)
        return result

    before = signal.getsignal(signal.SIGTERM)
    once, half = run(tmp_path / "a"), run(tmp_path / "b", until=3)
    assert (once.step, half.step) == (6, 3)
    assert signal.getsignal(signal.SIGTERM) == before  # what ends a process ends it again
    resumed = run(tmp_path / "b")
    for one, other in ((once.module, resumed.module), (once.ema, resumed.ema)):
        assert torch.equal(one.weight, other.weight)
    assert not torch.equal(once.module.weight, half.module.weight)


def test_judges_take_pictures() -> None:
    pictures = torch.rand(2, 3, 128, 128)
    seen = judges.read_attributes(judges.attribute_judge().eval(), pictures)
    assert seen.shape == (2, 16)
    vectors = judges.embed_instances(judges.instance_judge().eval(), pictures)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)


@pytest.mark.host
def test_a_file_is_written_when_something_in_it_has_changed(tmp_path) -> None:
    from personalize.miniature.train.export import write

    file, state = tmp_path / "part.safetensors", {"a": torch.rand(3), "n": torch.tensor([1, 2])}
    free = {"licence": "CC0-1.0"}
    write(file, state, free)
    for changed, about, written in (
        (state, free, False),
        ({**state, "n": torch.tensor([1, 3])}, free, True),
        ({"a": state["a"]}, free, True),
        (state, {"licence": "MIT"}, True),
    ):
        os.utime(file, (0, 0))
        write(file, changed, about)
        assert (file.stat().st_mtime > 0) is written
