import { app } from "../../../scripts/app.js"
import { makeChart } from "./chart.js"
import { button, element } from "./elements.js"
import { makePreviews } from "./previews.js"
import { continueRun, fetchRun, stopRun } from "./requests.js"
import { fromHistory, isSame } from "./run.js"
import { statusLine, stageLine } from "./status.js"
import { text } from "./texts.js"

/** The live view of one node. `show` takes a run; `root` is its element. */
export function makePanel() {
  const stage = element("span", "stage")
  const status = element("span", "status")
  const chart = makeChart()
  const previews = makePreviews()
  const log = button(text("log"), text("log_title"), () => setLog(!isLog))
  const action = button(text("stop"), text("stop_title"), act)
  const controls = element("div", "controls", [stage, status, log, action])
  const root = element("div", "personalize-live", [
    controls,
    element("div", "views", [chart.root, previews.root]),
  ])
  let isLog = false
  let frame = 0
  let asking = false
  const panel = { root, run: null, show, showHistory, ask }
  stage.setAttribute("role", "status")
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", text("panel"))
  log.setAttribute("aria-pressed", "false")
  previews.draw({ previews: [] })
  drawAction()

  function setLog(on) {
    isLog = on
    log.setAttribute("aria-pressed", String(on))
    redraw()
  }

  function show(run) {
    panel.isNew ||= !isSame(panel.run, run)
    panel.run = run
    redraw()
  }

  function showHistory(history) {
    const older = isSame(panel.run, history) && panel.run.known > history.step
    if (!older) show(fromHistory(history))
  }

  /** Ask for a whole history, once at a time. */
  async function ask(fetchHistory) {
    if (asking) return
    asking = true
    try {
      const history = await fetchHistory()
      if (history) showHistory(history)
    } finally {
      asking = false
    }
  }

  function redraw() {
    if (panel.run && !frame) frame = requestAnimationFrame(draw)
  }

  function draw() {
    frame = 0
    const { run, isNew } = panel
    panel.isNew = false
    if (isNew) chart.clear()
    setText(stage, stageLine(run))
    setText(status, statusLine(run))
    chart.draw(run, isLog)
    previews.draw(run, isNew)
    drawAction()
  }

  function drawAction() {
    const run = panel.run
    const canGoOn = run?.stage === "stopped" && run.resumable
    setText(action, text(canGoOn ? "go_on" : "stop"))
    action.title = text(canGoOn ? "go_on_title" : "stop_title")
    action.disabled = !canGoOn && run?.stage !== "running"
  }

  async function act() {
    const run = panel.run
    action.disabled = true
    const taken = run.stage === "running" ? await stopRun(run) : await continueRun(run)
    if (!taken) await ask(() => fetchRun(run.prompt, run.node))
    else if (run.stage === "stopped") await app.queuePrompt(0)
  }

  return panel
}

/** Set a text only when it changes, or a screen reader would read it again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}
