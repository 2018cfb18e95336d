"""How steps grow is asked of every variant in turn, and ours can be asked at any shape."""

from contextlib import ExitStack

import pytest
from personalize.bench import bench, bench_growth


class Told:
    """A process whose steps take a millisecond for each latent's side and picture."""

    def __init__(self, factor):
        self.factor, self.asked = factor, []

    def ask(self, what):
        self.asked.append(what)
        if what.startswith("shape"):
            latents, batch = map(int, what.split()[1:])
            self.size = latents * batch
        return {"seconds": self.factor * self.size / 1000, "memory": {"peak": self.size / 8}}


def test_the_table_tells_every_shape_against_diffusers():
    running = {"ours": Told(0.5), "diffusers": Told(1.0)}
    *_, small, large = bench_growth.report(running, [1, 2], [64], 3).splitlines()
    assert small == "| 64 | 1 | 4.0 | 8.0 | 0.50 | 1.00 | 1.00 |"
    assert large == "| 64 | 2 | 8.0 | 16.0 | 0.50 | 2.00 | 2.00 |"
    for told in running.values():
        steps = ["step"] * (bench_growth.WARM_UP + 3)
        assert told.asked == ["shape 8 1", *steps, "shape 8 2", *steps]


def test_only_cuda_has_graphs():
    assert bench_growth.variants("cpu") == ("ours", "diffusers")
    assert set(bench_growth.variants("cuda")) == {"ours", "diffusers", *bench.ON_GPU}


def test_a_variant_that_ends_early_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="(?s)ended early:.*invalid choice: 'nonsense'"):
        bench.Worker("nonsense", tmp_path / "none.safetensors", 8)


@pytest.mark.host
def test_ours_goes_on_at_another_shape(tiny_sd1):
    with ExitStack() as stack:
        ours = bench.Ours(tiny_sd1.path, 8, stack)
        ours.step()
        ours.shape(8, 2)
        ours.step()
        assert ours.training.step == 1 and len(ours.draw(0, ours.training.generator)) == 2
