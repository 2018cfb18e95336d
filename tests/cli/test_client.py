"""The client of a ComfyUI: what it says of servers that are gone, strange, or have forgotten."""

import http.server
import socket
import threading
from types import SimpleNamespace

import pytest
from personalize.cli.client import ClientError, ComfyClient, Message


@pytest.fixture
def web_server():
    """A server that is no ComfyUI: it has a page for everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome!</html>")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody():
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_an_address_needs_no_http_in_front(web_server):
    assert ComfyClient(web_server).base_url == f"http://{web_server}"
    assert ComfyClient(f"http://{web_server}/").base_url == f"http://{web_server}"
    assert ComfyClient(web_server).get("/anything") == b"<html>Welcome!</html>"


def test_a_server_that_is_no_comfyui_is_told(web_server):
    client = ComfyClient(web_server)
    with pytest.raises(ClientError, match="Expected JSON from .*/api/object_info, got b'<html>W"):
        client.object_info()
    with pytest.raises(ConnectionError, match="does not answer"):
        client.connect()  # no websocket there


def test_a_server_that_is_gone_is_told(nobody):
    client = ComfyClient(nobody)
    assert not client.alive()
    for ask in (client.object_info, client.connect):
        with pytest.raises(ConnectionError, match=f"at {nobody[:-1]} does not answer: "):
            ask()


def test_a_name_with_quotes_is_one_name(monkeypatch):
    """Of a folder that is called so, as it may be on Linux."""
    sent = []
    client = ComfyClient("http://127.0.0.1")
    monkeypatch.setattr(
        client, "_request", lambda *words: sent.append(words[1]) or b'{"name": "a"}'
    )
    assert client.upload_image('a "large" dog.png', b"pixels") == "a"
    assert b'filename="a %22large%22 dog.png"\r\n' in sent[0]


@pytest.mark.parametrize("where", ["queue_running", "queue_pending", "history", "nowhere"])
def test_what_was_deleted_from_the_queue_is_not_waited_for(monkeypatch, where):
    client = ComfyClient("http://127.0.0.1")
    client._socket = SimpleNamespace(receive=lambda seconds: None)
    asked = []

    def answer(path, body=None):
        asked.append(path)
        if path == "/api/queue":
            parts = {"queue_running": [], "queue_pending": []}
            return parts | ({where: [[0, "mine", {}, {}, []]]} if where in parts else {})
        ended = where == "history" or len(asked) > 6  # what is in the queue ends, too
        return {"mine": {"status": {"status_str": "success"}, "outputs": {}}} if ended else {}

    monkeypatch.setattr(client, "_json", answer)
    if where == "nowhere":
        with pytest.raises(ClientError, match="mine is neither in the queue nor in the history"):
            client.wait("mine")
    else:
        assert client.wait("mine").status == "success"


def test_what_comes_after_a_silence_is_heard_although_the_run_has_ended(monkeypatch):
    """On a busy machine the history knows the end before the last messages are delivered."""
    client = ComfyClient("http://127.0.0.1")
    end = Message("execution_success", {"prompt_id": "mine"})
    told = [Message("told"), Message("executed", {"prompt_id": "mine"})]
    coming = iter([None, *told, Message("executed", {"prompt_id": "other"}), end, Message("late")])
    client._socket = SimpleNamespace(receive=lambda seconds: next(coming))
    finished = {"mine": {"status": {"status_str": "success"}, "outputs": {}}}
    monkeypatch.setattr(client, "_json", lambda path: finished)
    heard = []
    assert client.wait("mine", heard.append).status == "success"
    assert heard == [*told, end]
