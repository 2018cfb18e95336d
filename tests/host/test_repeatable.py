"""What makes trainings repeat on a GPU, as far as a CPU shows it: settings, and who sees them."""

import pytest
import torch
from personalize.host.repeatable import repeatable, repeatable_attention
from personalize.tests.devices import is_played, on_cpu
from personalize.tests.trainers import TRAINERS, run_trainer
from torch.nn.functional import scaled_dot_product_attention

pytestmark = pytest.mark.host

cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
WARN, STRICT = 1, 2


def settings():
    return (
        torch.get_deterministic_debug_mode(),
        torch.utils.deterministic.fill_uninitialized_memory,
        cudnn.deterministic,
        cudnn.benchmark,
        cuda.allow_tf32,
        cudnn.allow_tf32,
        getattr(cuda, "allow_fp16_accumulation", False),  # torch before 2.7 never sums in fp16
    )


INSIDE = (WARN, False, True, False, False, True, False)


@pytest.fixture
def others():
    """Settings of another node, or of the host's start, which must come back."""
    before = cudnn.benchmark, cuda.allow_tf32, cudnn.allow_tf32
    cudnn.benchmark, cuda.allow_tf32, cudnn.allow_tf32 = True, True, False
    fp16_sums = hasattr(cuda, "allow_fp16_accumulation")
    if fp16_sums:
        cuda.allow_fp16_accumulation = True  # ComfyUI's --fast
    yield settings()
    if fp16_sums:
        cuda.allow_fp16_accumulation = False
    cudnn.benchmark, cuda.allow_tf32, cudnn.allow_tf32 = before


def test_settings_are_the_same_inside_and_come_back(others):
    with repeatable():
        assert settings() == INSIDE
        with repeatable():
            assert settings() == INSIDE
        assert settings() == INSIDE
    assert settings() == others
    with pytest.raises(KeyError), repeatable():
        raise KeyError
    assert settings() == others


@pytest.mark.parametrize("mode", [WARN, STRICT])
def test_a_host_started_with_deterministic_stays_so(mode):
    torch.set_deterministic_debug_mode(mode)
    try:
        with repeatable():
            assert torch.get_deterministic_debug_mode() == mode
        assert torch.get_deterministic_debug_mode() == mode
    finally:
        torch.set_deterministic_debug_mode(0)


def test_settings_that_a_program_has_mixed_stay():
    if not hasattr(cuda, "fp32_precision"):
        pytest.skip("this torch has one way alone to set TF32")
    cuda.fp32_precision = "tf32"
    try:
        with pytest.raises(RuntimeError, match="mix"):
            _ = cuda.allow_tf32
        with repeatable():
            assert cuda.fp32_precision == "tf32"
        assert cuda.fp32_precision == "tf32"
    finally:
        cuda.allow_tf32 = False  # both ways agree again


def reshaped(q, k, v, heads=2):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(q), -1, 16)


def products(q, k, v):
    return (q @ k.transpose(1, 2)).softmax(-1) @ v


@pytest.mark.parametrize(("attend", "wanted"), [(reshaped, STRICT), (products, WARN)])
def test_the_backward_pass_of_fused_attention_alone_demands_determinism(attend, wanted):
    q, k, v = torch.randn(3, 2, 5, 16).unbind()
    seen = {}

    def note(place):
        def hook(_):
            seen[place] = torch.get_deterministic_debug_mode()

        return hook

    leaf = q.clone().requires_grad_()
    with repeatable():
        entering = leaf * 1
        out = repeatable_attention(attend)(entering, k, v)
        inner = fused_step(out.grad_fn)
        if inner is not None:  # hooks run in their order, so this one sees what torch will see
            inner.register_prehook(note("at"))
        out.register_hook(note("before"))
        entering.register_hook(note("after"))
        out.square().sum().backward()
        assert torch.get_deterministic_debug_mode() == WARN
    assert seen.pop("at", WARN) == wanted and seen == {"before": WARN, "after": WARN}
    plain = q.clone().requires_grad_()
    attend(plain, k, v).square().sum().backward()
    assert torch.equal(leaf.grad, plain.grad)


def fused_step(node):
    while node is not None and "Attention" not in node.name():
        following = node.next_functions
        node = following[0][0] if following else None
    return node


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_training_computes_so_and_its_pauses_do_not(
    fresh_sd1, monkeypatch, others, trainer, checkpointing
):
    from personalize.host import repeatable as module

    demanded, inside, pauses, demand = [], [], [], module._demand
    monkeypatch.setattr(module, "_demand", lambda g: (demanded.append(1), demand(g))[1])

    def on_step(report):
        inside.append(settings())
        with report.backbone.paused():
            pauses.append(settings())

    run_trainer(trainer, fresh_sd1, on_step, steps=2, gradient_checkpointing=checkpointing)
    assert set(inside) == {INSIDE} and set(pauses) == {others} and settings() == others
    if not is_played():  # it has no fused attention
        # without a UNet there is none: on a CPU the host's text encoders use no fused attention
        assert bool(demanded) == (trainer != "elite align" or not on_cpu())
