"""What a step costs, where the system does not tell all."""

import math
from types import SimpleNamespace

from personalize.bench import costs


def test_memory_is_unknown_where_there_is_no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "device_of_host", lambda: SimpleNamespace(type="cpu"))
    monkeypatch.setattr(costs, "STATUS", tmp_path / "status")
    costs.reset_peak()
    assert all(map(math.isnan, costs.memory().values()))
    assert not list(tmp_path.iterdir())
    costs.STATUS.write_text("VmHWM:\t 2097152 kB\nVmRSS:\t 1048576 kB\n")
    assert costs.memory() == {"now": 1.0, "peak": 2.0}
