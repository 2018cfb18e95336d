"""A server ends when it is asked to, wherever the tests or the demo were started from."""

import signal
import subprocess
import sys

import pytest
from personalize.bench.on_gpu.stages import timed
from personalize.cli.client import ComfyClient
from personalize.tools.server.server import ComfyServer, make_base_directory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

HOST = """
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def host(tmp_path):
    """It answers what a ComfyUI is asked at first, and knows of no signal."""
    folder = tmp_path / "host"
    (folder / "api").mkdir(parents=True)
    (folder / "api" / "system_stats").write_text("{}")
    (folder / "main.py").write_text(HOST)
    return folder


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["in front", "behind"])
def started_from(request):
    """A shell lets what runs in the background ignore Ctrl+C."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_server_ends_when_asked(started_from, host, tmp_path):
    server = ComfyServer(host, make_base_directory(tmp_path / "base"), {})
    server.start()
    process = server._process
    server.stop()
    assert process.returncode not in (None, -signal.SIGKILL)


def test_a_server_that_is_given_up_while_it_starts_ends_too(host, tmp_path, monkeypatch):
    """Ctrl+C in the first minute, for one: nobody else knows of the process."""

    def interrupted(client):
        raise KeyboardInterrupt

    server = ComfyServer(host, make_base_directory(tmp_path / "base"), {})
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(ComfyClient, "alive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert started[0].poll() is not None and not server.running


def test_a_command_ends_when_its_time_is_up(started_from):
    forever = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(1)"
    code, lines = timed([sys.executable, "-c", forever], 1.0, {})
    assert code not in (0, -signal.SIGKILL) and lines[-1] == "interrupted after 1 s"
