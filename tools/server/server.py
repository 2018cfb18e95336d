"""A ComfyUI server on loopback, with a base directory and linked node packs of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from ...cli.client import ComfyClient
from ...cli.comfyui import wants_cpu

START_SECONDS = 600.0  # a busy processor is slow, and a server that fails ends before
STOP_SECONDS = 60.0
FRONTEND = "COMFYUI_FRONTEND"
"""Environment variable: a folder with another frontend than the host's own, for tests of it."""

MODEL_FOLDERS = (
    *("checkpoints", "clip_metrics", "clip_vision", "concepts", "elite", "embeddings"),
    *("loras", "sams", "text_encoders", "vae"),
)


class ServerError(RuntimeError):
    """The server did not start or is gone; the message ends with the tail of its log."""


class ComfyServer:
    """Starts and stops `main.py` of a checkout. Use it as a context manager.

    `host`: the checkout; `base_directory`: gets models, input, output, temp, custom_nodes and the
    log; `packs`: name in custom_nodes -> folder to link there; `arguments`: more for main.py. It
    computes on the GPU where there is one, unless PERSONALIZE_DEVICE says cpu.
    """

    def __init__(
        self,
        host: Path,
        base_directory: Path,
        packs: Mapping[str, Path],
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ):
        self.host = host
        self.base_directory = base_directory
        self.port = _free_port()
        self.log_path = base_directory / "server.log"
        self._arguments = list(arguments)
        # more threads gain nothing on small models, and crawl when anything else uses the processor
        threads = {"OMP_NUM_THREADS": "1"}
        own = {"PYTHONUNBUFFERED": "1", **(environment or {})}
        self._environment = {**threads, **os.environ, **own}
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.start_log = ""  # what the server printed until it answered
        for name, folder in packs.items():
            link_pack(base_directory, name, folder)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> ComfyClient:
        """A client whose websocket listens to this server."""
        return ComfyClient(self.base_url)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("The server is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """What the server printed since its last start."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start the server and wait until it answers."""
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.host,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        try:
            self._wait_for_an_answer(timeout)
        except BaseException:  # Ctrl+C, too: nobody else would end it
            self.kill()
            raise
        self.start_log = self.log()

    def _wait_for_an_answer(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.client.alive():
            if not self.running:
                raise ServerError(f"The server ended before it answered.\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise ServerError(f"No answer within {timeout:.0f} s.\n{self.log()[-3000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask the server to end, as Ctrl+C does; kill it when it does not."""
        self.client.close()
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(ctrl_c())
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server at once, in the middle of what it does, as a crash would."""
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop the server if it still runs and start it again, on the same port and folders."""
        self.stop()
        self.start()

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "main.py", "--port", str(self.port)),
            *(["--cpu"] if wants_cpu() else []),
            *("--base-directory", str(self.base_directory), "--disable-api-nodes"),
            *("--disable-auto-launch", "--database-url", "sqlite:///:memory:"),
            *(("--front-end-root", named) if (named := self._environment.get(FRONTEND)) else ()),
            *self._arguments,
        ]


def ctrl_c() -> signal.Signals:
    """What asks a process that we started to end: Ctrl+C, where it hears that.

    A shell lets what it runs in the background ignore SIGINT, and so do all that come from there:
    a server would go on as if nothing had been said.
    """
    deaf = os.name != "posix" or signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return signal.SIGTERM if deaf else signal.SIGINT


def make_base_directory(base: Path | None = None) -> Path:
    """A ComfyUI base directory with its folders; a temporary one when none is named."""
    base = (base or Path(tempfile.mkdtemp(prefix="personalize-"))).resolve()
    for folder in ("input", "output", "temp", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for folder in MODEL_FOLDERS:
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
    return base


def link_pack(base_directory: Path, name: str, folder: Path) -> None:
    """Link a custom node pack into a base directory; an existing link is replaced."""
    link = base_directory / "custom_nodes" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(folder.resolve(), target_is_directory=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
