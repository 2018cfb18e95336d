"""A client of a running ComfyUI: queue workflows over HTTP, follow them over the websocket.

    client = ComfyClient("http://127.0.0.1:8188")
    run = client.run(workflow, on_message=print)
    picture = client.fetch(run.files("images")[0])

Needs only what ComfyUI itself needs (aiohttp). Blocking, for one thread.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Workflow = dict[str, Any]  # API format: node id -> {"class_type": ..., "inputs": {...}}

_PICTURE, _TEXT, _PICTURE_WITH_METADATA = 1, 3, 4  # binary message types of the host
_PICTURE_TYPES = {1: "image/jpeg", 2: "image/png"}


class ClientError(RuntimeError):
    """The server refused a request; the message is its answer."""


class RunError(RuntimeError):
    """A queued workflow failed or was interrupted. `run` has what the server told about it."""

    def __init__(self, message: str, run: Run):
        super().__init__(message)
        self.run = run


@dataclass(frozen=True)
class Message:
    """One websocket message.

    `kind`: the host's name (`progress`, `executing`, `executed`, `execution_error`, ...), `preview`
    for a picture, `text` for a progress text. `data`: its content. `picture`: encoded bytes.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    picture: bytes | None = None

    def belongs_to(self, prompt_id: str) -> bool:
        """Is it about this run, or about none in particular?"""
        return self.data.get("prompt_id", prompt_id) == prompt_id

    def ends(self, prompt_id: str) -> bool:
        """Is it the last one of this run?"""
        return self.kind in _ENDS and self.belongs_to(prompt_id)


@dataclass(frozen=True)
class Run:
    """A finished workflow, from the server's history."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]  # node id -> ui outputs
    status: str  # "success" or "error" (interrupted ones, too)
    messages: list[tuple[str, dict[str, Any]]]

    @property
    def interrupted(self) -> bool:
        return any(kind == "execution_interrupted" for kind, _ in self.messages)

    @property
    def error(self) -> dict[str, Any] | None:
        """Details of the failure: `exception_type`, `exception_message`, `node_type`, ..."""
        errors = [data for kind, data in self.messages if kind == "execution_error"]
        return errors[-1] if errors else None

    def files(self, kind: str = "images") -> list[dict[str, str]]:
        """Saved files of all nodes, each {"filename", "subfolder", "type"}, for `fetch`."""
        return [file for output in self.outputs.values() for file in output.get(kind, [])]


class ComfyClient:
    """base_url: such as http://127.0.0.1:8188; without `http://` it is taken for that.

    A server that cannot be reached, or that falls silent, raises ConnectionError with a sentence.
    """

    def __init__(self, base_url: str, timeout: float = 120.0):
        self.base_url = (base_url if "://" in base_url else f"http://{base_url}").rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._timeout = timeout
        self._socket: _Socket | None = None

    def alive(self) -> bool:
        """Does the server answer?"""
        try:
            self._request("/api/system_stats")
        except (OSError, ClientError):
            return False
        return True

    def connect(self) -> None:
        """Open the websocket; messages are kept from here on. `queue` does it when needed."""
        if self._socket is None:
            address = f"{self.base_url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
            try:
                self._socket = _Socket(address)
            except (OSError, aiohttp.ClientError) as error:
                raise self._silent(error) from error

    def close(self) -> None:
        """Close the websocket and forget unread messages."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def queue(self, workflow: Workflow, extra: dict[str, Any] | None = None) -> str:
        """Put a workflow in the queue; return its prompt id. A refused one raises ClientError."""
        self.connect()
        body = {"prompt": workflow, "client_id": self.client_id, "extra_data": extra or {}}
        return self._json("/api/prompt", body)["prompt_id"]

    def wait(
        self,
        prompt_id: str,
        on_message: Callable[[Message], None] | None = None,
        timeout: float = 600.0,
    ) -> Run:
        """Follow a queued workflow to its end; raise RunError unless it succeeded.

        `on_message` gets every message of the run and may call `interrupt`; what it raises leaves
        the run as it is. A lost message cannot block: in silence the history is asked, and what is
        still on its way is heard out; and the queue, from which a workflow may have been deleted.
        Then ClientError is raised.
        """
        self.connect()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            message = self._next(prompt_id, on_message)
            ended = message is not None and message.ends(prompt_id)
            if ended or message is None:
                run = self._ended(prompt_id, patience=5.0 if ended else 0.0)
                if run is not None:
                    while not ended and time.monotonic() < deadline:
                        message = self._next(prompt_id, on_message)
                        ended = message is None or message.ends(prompt_id)
                    return _succeeded(run)
                if not ended and self._is_gone(prompt_id):
                    raise ClientError(
                        f"The workflow {prompt_id} is neither in the queue nor in the history: it "
                        "was deleted there, or the server was started anew."
                    )
        raise TimeoutError(f"The workflow {prompt_id} did not end within {timeout:.0f} s.")

    def run(
        self,
        workflow: Workflow,
        on_message: Callable[[Message], None] | None = None,
        timeout: float = 600.0,
    ) -> Run:
        """Queue a workflow and wait for its end."""
        return self.wait(self.queue(workflow), on_message, timeout)

    def history(self, prompt_id: str) -> Run | None:
        """A finished workflow, None while it waits or runs."""
        entry = self._json(f"/api/history/{prompt_id}").get(prompt_id)
        if entry is None:
            return None
        status = entry.get("status") or {}
        messages = [(kind, data) for kind, data in status.get("messages", [])]
        return Run(prompt_id, entry["outputs"], status.get("status_str", "error"), messages)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancel the workflow that runs now, or only if it is this one."""
        body = {"prompt_id": prompt_id} if prompt_id else {}
        self._request("/api/interrupt", json.dumps(body).encode(), "application/json")

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """Schemas by node id, of one node or of all."""
        return self._json("/api/object_info" + (f"/{node}" if node else ""))

    def upload_image(self, name: str, content: bytes, overwrite: bool = True) -> str:
        """Put an encoded picture into the input folder; return the name that LoadImage takes."""
        fields = {"overwrite": "true" if overwrite else "false"}
        body, content_type = _form(fields, "image", name, content)
        answer = json.loads(self._request("/api/upload/image", body, content_type))
        return "/".join(filter(None, [answer.get("subfolder"), answer["name"]]))

    def fetch(self, file: dict[str, str]) -> bytes:
        """Content of a saved file, named as in `Run.files`."""
        return self._request(f"/api/view?{urllib.parse.urlencode(file)}")

    def get(self, path: str) -> bytes:
        """Content of any address of the server, such as `/extensions/...`."""
        return self._request(path)

    def _next(self, prompt_id: str, on_message: Callable[[Message], None] | None) -> Message | None:
        """The next message of whatever run, told if it is of this one; None in silence."""
        assert self._socket is not None
        message = self._socket.receive(1.0)
        if message is not None and on_message is not None and message.belongs_to(prompt_id):
            on_message(message)
        return message

    def _ended(self, prompt_id: str, patience: float) -> Run | None:
        """The history's entry; after the last message it may come a moment late."""
        deadline = time.monotonic() + patience
        run = self.history(prompt_id)
        while run is None and time.monotonic() < deadline:
            time.sleep(0.05)
            run = self.history(prompt_id)
        return run

    def _is_gone(self, prompt_id: str) -> bool:
        """Does it neither wait nor run, nor has it ended?

        The history is asked last: what ends meanwhile goes from the queue into the history.
        """
        queue = self._json("/api/queue")
        known = (entry[1] for part in ("queue_running", "queue_pending") for entry in queue[part])
        return prompt_id not in known and self.history(prompt_id) is None

    def _json(self, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        answer = self._request(path, data, "application/json")
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ClientError(
                f"Expected JSON from {self.base_url}{path}, got {answer[:40]!r}. Is that a ComfyUI?"
            ) from error

    def _request(self, path: str, data: bytes | None = None, content_type: str = "") -> bytes:
        headers = {"Content-Type": content_type} if content_type else {}
        request = urllib.request.Request(self.base_url + path, data, headers)
        try:
            with _DIRECT.open(request, timeout=self._timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            raise ClientError(f"{path}: {error.code} {error.reason}\n{text}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> ConnectionError:
        reason = getattr(error, "reason", None) or error
        return ConnectionError(f"The ComfyUI at {self.base_url} does not answer: {reason}")


_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class _Socket:
    """A websocket for blocking code: an event loop that turns only while we wait for a message."""

    def __init__(self, address: str):
        self._loop = asyncio.new_event_loop()
        try:
            self._session, self._socket = self._loop.run_until_complete(self._open(address))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    async def _open(
        address: str,
    ) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse[Any]]:
        session = aiohttp.ClientSession()
        try:
            return session, await session.ws_connect(address, max_msg_size=0)
        except BaseException:
            await session.close()
            raise

    def receive(self, timeout: float) -> Message | None:
        """The next message, None when none came in time or the connection is gone."""
        if self._socket.closed:
            time.sleep(min(timeout, 0.2))
            return None
        try:
            raw = self._loop.run_until_complete(self._socket.receive(timeout=timeout))
        except (TimeoutError, asyncio.TimeoutError):
            return None
        if raw.type == aiohttp.WSMsgType.TEXT:
            content = json.loads(raw.data)
            return Message(content["type"], content.get("data") or {})
        return _binary(raw.data) if raw.type == aiohttp.WSMsgType.BINARY else None

    def close(self) -> None:
        self._loop.run_until_complete(self._session.close())
        self._loop.close()


def _binary(content: bytes) -> Message | None:
    """Preview pictures and progress texts: a big-endian type and length, then a body."""
    kind, length = struct.unpack_from(">II", content)
    body = content[8:]
    if kind == _PICTURE:
        return Message("preview", {"image_type": _PICTURE_TYPES.get(length, "")}, body)
    if kind == _TEXT:
        node, text = body[:length].decode(), body[length:].decode("utf-8", "replace")
        return Message("text", {"node": node, "text": text})
    if kind == _PICTURE_WITH_METADATA:
        return Message("preview", json.loads(body[:length]), body[length:])
    return None


def _succeeded(run: Run) -> Run:
    if run.status == "success":
        return run
    if run.interrupted:
        raise RunError("The workflow was interrupted.", run)
    error = run.error or {}
    what = error.get("exception_message", "unknown error")
    raise RunError(f"{error.get('node_type', 'The workflow')} failed: {what}", run)


def _form(fields: dict[str, str], key: str, name: str, content: bytes) -> tuple[bytes, str]:
    """A multipart form with one file: its body and its content type."""
    mark, name = uuid.uuid4().hex, name.replace('"', "%22")  # as browsers write it
    head = "Content-Disposition: form-data; name="
    parts = [f'--{mark}\r\n{head}"{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    parts.append(
        f'--{mark}\r\n{head}"{key}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
    )
    return b"".join([*parts, content, f"\r\n--{mark}--\r\n".encode()]), (
        f"multipart/form-data; boundary={mark}"
    )
