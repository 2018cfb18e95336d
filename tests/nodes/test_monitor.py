import math

import pytest
import torch
from personalize.nodes.monitor import plottable

pytestmark = pytest.mark.host


@pytest.mark.parametrize(
    "losses",
    [[0.5], [0.0], [0.25] * 7, [0.0, 0.0], [1e-30, 1e-30], [1e6] * 3, [0.3, 0.2, 0.4]],
    ids=["one step", "one of 0", "constant", "constant 0", "tiny", "large", "ordinary"],
)
def test_the_stock_loss_graph_draws_any_losses(losses):
    from comfy_extras.nodes_train import LossGraphNode

    loss_map = plottable(losses)
    drawn = [float(value) for value in loss_map["loss"]]
    assert drawn[: len(losses)] == pytest.approx(losses, rel=1e-5, abs=1e-8)
    clone = LossGraphNode.PREPARE_CLASS_CLONE(None)
    ui = clone.EXECUTE_NORMALIZED(loss=loss_map, filename_prefix="loss_graph").ui
    assert len(ui.as_dict()["images"]) == 1


def test_ordinary_losses_are_left_as_they_are():
    losses = [0.3, 0.1, 0.2]
    assert [float(v) for v in plottable(losses)["loss"]] == losses


def test_values_are_finite_tensors_on_the_cpu():
    for value in plottable([0.5])["loss"]:
        assert torch.is_tensor(value) and value.device.type == "cpu" and math.isfinite(value)
