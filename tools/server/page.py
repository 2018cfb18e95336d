"""The frontend in a browser tab: open it, load a workflow, queue it, wait, look."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cli.comfyui import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

    from ...cli.client import Run, Workflow
    from .server import ComfyServer

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOW_TO_GET_IT = "apt-get install chromium, or .venv/bin/playwright install chromium"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
SCREENSHOTS = ROOT / ".screenshots"
PATIENCE = 400.0  # seconds; a busy processor is slow

KNOWN_ERRORS = {
    r"404 \(Not Found\) .*/user\.css": "a new user has no style sheet",
    r"404 \(Not Found\) .*/api/userdata\?dir=": "a new user has no saved workflows or subgraphs",
    r"404 \(Not Found\) .*/comfy\.templates\.json": "a new user has no node templates",
    r"404 \(Not Found\) .*/docs/\w+/\w+\.md": "help is asked for in one's language first",
    r"graph accessed before initialization": "the frontend's own order at its start",
    r"https://huggingface\.co/Comfy-Org/.*Content Security Policy": (
        "the default workflow of the frontend asks for the size of its models"
    ),
}
"""Console errors that the frontend shows without this pack, by pattern, and why."""


HOLD = """part => {
    const fetchNow = window.fetch
    window.held = []
    window.fetch = async (address, ...more) => {
        const isHeld = String(address).includes(part)
        const at = isHeld ? window.held.push(null) - 1 : 0
        const released = isHeld && new Promise(resolve => (window.held[at] = resolve))
        const answer = await fetchNow(address, ...more)
        if (isHeld) window.held[at].there = true
        await released
        return answer
    }
}"""
"""Answers are there, and come when the test says so, in its order."""


class Renderer(Enum):
    CANVAS = "canvas"
    NODES_2 = "nodes2"


class NoBrowser(RuntimeError):
    """Chromium, or what drives it, is missing."""


def on_path() -> str | None:
    """A Chromium that is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium on the PATH, else Playwright's own. Raises NoBrowser when there is neither."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise NoBrowser("no Playwright: see requirements-dev.txt") from error
    with sync_playwright() as driver:
        program = on_path() or driver.chromium.executable_path
        if not Path(program).is_file():
            raise NoBrowser(f"no Chromium: {HOW_TO_GET_IT}")
        browser = driver.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


class ComfyPage:
    """One tab. `tab` is Playwright's page, `errors` what the console told that nobody expects."""

    def __init__(self, tab: Page, server: ComfyServer, renderer: Renderer) -> None:
        self.tab, self.server, self.renderer = tab, server, renderer
        self.errors: list[str] = []
        tab.set_default_timeout(PATIENCE * 1000)
        tab.on("console", self._on_console)
        tab.on("pageerror", lambda error: self._note(f"{error.message}\n{error.stack}"))

    def open(self) -> None:
        """Go to the frontend and wait until the pack's nodes can be added."""
        self.set_settings(
            {
                "Comfy.VueNodes.Enabled": self.renderer is Renderer.NODES_2,
                "Comfy.TutorialCompleted": True,
                "Comfy.UseNewMenu": "Top",
                "Comfy.Minimap.Visible": False,
                "Comfy.RightSidePanel.IsOpen": False,
            }
        )
        self.tab.goto(self.server.base_url)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """After `open` or a reload: nodes are registered and a workflow is shown."""
        self.tab.wait_for_function(
            "window.LiteGraph?.registered_node_types?.PersonalizeApplyConcept"
            " && window.app?.canvas?.graph && window.app.extensionManager?.workflow?.activeWorkflow"
        )
        self.wait_for_frames()

    def reload(self) -> None:
        self.tab.reload()
        self.wait_until_ready()

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Change settings of the frontend; a page that is open sees them after a reload."""
        _post(f"{self.server.base_url}/api/settings", settings)

    def clear(self) -> None:
        self.load({"nodes": [], "links": [], "version": 0.4})

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow that the browser saved."""
        self.tab.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        self.wait_for_frames()

    def saved(self) -> dict[str, Any]:
        """The shown workflow as its file has it.

        What has no value is left out there; between page and test it would come through as null,
        which the frontend need not take.
        """
        return json.loads(self.tab.evaluate("JSON.stringify(window.app.rootGraph.serialize())"))

    def load_prompt(self, prompt: Workflow) -> dict[str, int]:
        """Open a workflow in the API format; return the number that each node has got."""
        ids = {key: number for number, key in enumerate(prompt, start=1)}
        numbered = {str(ids[key]): _linked(node, ids) for key, node in prompt.items()}
        self.tab.evaluate("prompt => window.app.loadApiJson(prompt, 'test')", numbered)
        # Only a graph that was saved and loaded has an id of its own, as those of users do.
        self.load(self.saved())
        return ids

    def queue(self) -> str:
        """Queue the workflow that is shown, as the Run button does; return its prompt id."""
        with self.tab.expect_response(re.compile(r"/api/prompt$")) as answer:
            self.tab.evaluate("window.app.queuePrompt(0)")
        content = answer.value.json()
        assert answer.value.ok and not content.get("node_errors"), content
        return content["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = PATIENCE) -> Run:
        """The finished run, whatever its end; the page goes on meanwhile."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            run = self.server.client.history(prompt_id)
            if run is not None:
                self.wait_for_frames()
                return run
            self.tab.wait_for_timeout(100)
        raise TimeoutError(f"The workflow {prompt_id} did not end within {timeout:.0f} s.")

    def run(self, timeout: float = PATIENCE) -> Run:
        """Queue the workflow that is shown and wait for its success."""
        run = self.wait(self.queue(), timeout)
        assert run.status == "success", run.messages
        return run

    def set_widget(self, node: int | str, name: str, value: Any) -> None:
        """Set a widget of a node of the shown graph, as typing into it does."""
        self.tab.evaluate(
            """([id, name, value]) => {
                const node = window.app.canvas.graph.getNodeById(id)
                const widget = node.widgets.find(w => w.name === name)
                widget.value = value
                widget.callback?.(value, window.app.canvas, node)
            }""",
            [node, name, value],
        )

    def change(self) -> None:
        """Let the frontend notice changes of the graph, as it does after each click and key."""
        self.tab.evaluate("comfyAPI.api.api.dispatchCustomEvent('graphChanged', null)")

    def add_node(self, node_type: str, place: tuple[int, int], **widgets: Any) -> int:
        """Add a node to the shown graph, as the search box does, and set its widgets."""
        node = self.tab.evaluate(
            """([type, place]) => {
                const node = window.LiteGraph.createNode(type)
                node.pos = place
                window.app.canvas.graph.add(node)
                return node.id
            }""",
            [node_type, list(place)],
        )
        for name, value in widgets.items():
            self.set_widget(node, name, value)
        return node

    def link(self, source: int, output: int, target: int, name: str) -> None:
        """Connect an output with the input of that name, as dragging a link does."""
        self.tab.evaluate(
            """([source, output, target, name]) => {
                const graph = window.app.canvas.graph
                const to = graph.getNodeById(target)
                const slot = to.inputs.findIndex(input => input.name === name)
                if (!graph.getNodeById(source).connect(output, to, slot)) throw new Error(name)
            }""",
            [source, output, target, name],
        )

    def center_on(self, node: int | str, scale: float = 1.0) -> None:
        """Bring a node of the shown graph into the middle of the view."""
        self.tab.evaluate(
            """([id, scale]) => {
                const canvas = window.app.canvas
                canvas.ds.scale = scale
                canvas.centerOnNode(canvas.graph.getNodeById(id))
                canvas.setDirty(true, true)
            }""",
            [node, scale],
        )
        self.wait_for_frames(4)

    def select(self, node: int | str) -> None:
        """Click on the title of a node that is in view."""
        place = self.tab.evaluate(
            """id => {
                const { canvas, ds, graph } = window.app.canvas
                const [x, y] = graph.getNodeById(id).pos
                const { left, top } = canvas.getBoundingClientRect()
                const [right, down] = [x + 80 + ds.offset[0], y - 12 + ds.offset[1]]
                return [left + right * ds.scale, top + down * ds.scale]
            }""",
            node,
        )
        self.tab.mouse.click(*place)

    def fit_view(self) -> None:
        """Bring all nodes of the shown graph into the view."""
        self.tab.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.tab.wait_for_timeout(600)  # it glides

    def find(self, selector: str) -> Locator:
        return self.tab.locator(selector)

    def hold_answers(self, part: str) -> None:
        """Keep the server's answers to addresses with this part from the page, until released."""
        self.tab.evaluate(HOLD, part)

    def release_answer(self, number: int) -> None:
        """Give the page an answer that was held, counted from 0, which it may still ask for."""
        self.tab.wait_for_function("number => window.held.length > number", arg=number)
        self.tab.evaluate("number => window.held[number]()", number)
        self.wait_for_frames(4)

    def wait_for_frames(self, count: int = 2) -> None:
        """Wait until the page has been drawn a few times."""
        self.tab.evaluate(
            "async n => { while (n--) await new Promise(requestAnimationFrame) }", count
        )

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the tab as an artefact."""
        path = SCREENSHOTS / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}.png"
        self.tab.screenshot(path=path)
        return path

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} {message.location.get('url', '')}")

    def _note(self, error: str) -> None:
        if not any(re.search(pattern, error) for pattern in KNOWN_ERRORS):
            self.errors.append(error)


def _linked(node: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    """A node of a prompt whose links name other nodes by number."""
    inputs = {
        name: [str(ids[value[0]]), value[1]] if isinstance(value, list) else value
        for name, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs}


def _post(address: str, content: Any) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(content).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE):
        pass
