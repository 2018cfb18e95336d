"""What concepts add to a pass of the UNet never waits for the device."""

from collections import Counter

import pytest
import torch
from personalize.host import attention
from personalize.samplers.apply import apply_concept
from personalize.samplers.local_attention import LocalPatch
from personalize.samplers.local_weights import LocalWeights
from personalize.tests.conftest import load_tiny
from personalize.tests.elite_models import random_encoder
from personalize.tests.elite_sampling import elite_concept
from personalize.tests.moving_host import sampled
from personalize.tests.no_waiting import no_waiting
from personalize.tests.played_device import PLAYED, host_with, played_device
from personalize.tests.samplers.test_local_weights import detex

pytestmark = pytest.mark.host


@pytest.fixture(params=["host's", "torch's"])
def kernel(request, monkeypatch):
    """The attention of a CPU, and the one of a GPU, which tells the logsumexp."""
    if request.param == "torch's":
        monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
        kernels = {(PLAYED.type, 0): attention._flash_on_cpu}
        monkeypatch.setattr(attention, "_KERNELS", kernels)


class Watch:
    """Lets methods wait for nothing while it is on, and counts their calls by name."""

    def __init__(self, monkeypatch, owner, *names):
        self.on, self.calls = False, Counter()
        for name in names:
            monkeypatch.setattr(owner, name, self.watched(getattr(owner, name), name))

    def watched(self, method, name):
        def run(*args):
            if not self.on:
                return method(*args)
            self.calls[name] += 1
            with no_waiting(copies=name == "_attend"):
                return method(*args)

        return run


@torch.inference_mode()
def drawn(tiny, model, clip, prompt):
    return sampled(tiny, model, clip, prompt)


@pytest.mark.usefixtures("kernel")
def test_local_attention(tiny_sd1, monkeypatch):
    watch = Watch(monkeypatch, LocalPatch, "__call__")
    with played_device() as device, host_with(device):
        tiny = load_tiny(tiny_sd1.path, "sd1")
        concept = elite_concept(random_encoder(tiny))
        applied = apply_concept(tiny.model, tiny.clip, concept)
        drawn(tiny, *applied, "a <rex>")  # keys, values and indices are made now
        watch.on = True
        drawn(tiny, *applied, "a <rex>")
    assert watch.calls["__call__"] >= 7


def test_weights_of_their_own_prompts(tiny_sd1, monkeypatch):
    watch = Watch(monkeypatch, LocalWeights, "patches_of", "_attend")
    with played_device() as device, host_with(device):
        tiny = load_tiny(tiny_sd1.path, "sd1")
        applied = apply_concept(tiny.model, tiny.clip, detex(tiny), own_prompts=True)
        drawn(tiny, *applied, "a <a>")
        watch.on = True
        drawn(tiny, *applied, "a <a>")
    assert watch.calls["_attend"] == 7 * watch.calls["patches_of"] > 0
