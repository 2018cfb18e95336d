"""Other versions of ComfyUI: which there are, and what their environments need."""

import pytest
from personalize.cli.comfyui import ROOT
from personalize.tools import get_host, matrix
from personalize.tools.server.server import FRONTEND, ComfyServer


def test_the_oldest_supported_and_the_pinned_one_are_run():
    supported = f'requires-comfyui = ">={matrix.CHOSEN[0]}"'
    assert supported in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert matrix.CHOSEN[-1] == get_host.VERSION
    assert set(matrix.CHOSEN) <= set(get_host.SDISTS)


def test_an_environment_shares_torch_and_leaves_out_the_hosts_data(tmp_path):
    lines = ["comfyui-frontend-package==1.39.19", "torch", "torchsde", "", "# more", "av>=14"]
    (tmp_path / "requirements.txt").write_text("\n".join([*lines, "comfy-kitchen==0.2.10"]))
    assert matrix.requirements_of(tmp_path) == ["torchsde", "av>=14", "comfy-kitchen==0.2.10"]


def test_a_version_that_cannot_be_had_is_refused(capsys):
    with pytest.raises(SystemExit):
        matrix.main(["0.1.0"])
    assert "PyPI has no ComfyUI 0.1.0" in capsys.readouterr().err


def test_what_follows_a_double_dash_goes_to_pytest(monkeypatch):
    ran = []

    def run(version, tests):
        ran.append((version, list(tests)))
        return matrix.Outcome(version, version != "0.27.0", "1 passed", 0.0)

    monkeypatch.setattr(matrix, "run", run)
    assert matrix.main(["0.16.3", "--", "tests/host", "-k", "sam"]) == 0
    assert matrix.main(["0.27.0"]) == 1
    assert ran == [("0.16.3", ["tests/host", "-k", "sam"]), ("0.27.0", list(matrix.TESTS))]


def test_another_frontend_is_tested_on_the_pinned_version(monkeypatch, tmp_path):
    page = tmp_path / "1.58.1" / "comfyui_frontend_package" / "static"
    (tmp_path / "1.58.1").mkdir()  # as a download that was stopped leaves it
    monkeypatch.setattr(matrix.subprocess, "run", lambda *_, **__: page.mkdir(parents=True))
    monkeypatch.setattr(matrix, "FRONTENDS", tmp_path)
    monkeypatch.setattr(matrix, "get_host", lambda: tmp_path)
    told = {}

    def run(version, python, tests, own):
        told.update(own, tests=tuple(tests))
        return matrix.Outcome(version, True, "1 passed", 0.0)

    monkeypatch.setattr(matrix, "_run", run)
    assert matrix.main(["--frontend", "1.58.1"]) == 0
    assert page.is_dir()
    assert told["tests"] == matrix.PAGES and told[FRONTEND] == str(page)
    server = ComfyServer(tmp_path, tmp_path, {}, environment={FRONTEND: str(page)})
    command = server._command()
    assert command[command.index("--front-end-root") + 1] == str(page)
