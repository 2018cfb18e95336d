import { app } from "../../../scripts/app.js"
import { makeChart } from "./chart.js"
import { button, element, setText } from "./elements.js"
import { makeFolding } from "./folding.js"
import { makeGrid } from "./grid.js"
import { makePreviews } from "./previews.js"
import { continueRun, fetchRun, keepStep, stopRun } from "./requests.js"
import { failed, fromHistory, isBehind, isSame } from "./run.js"
import { makeSaving } from "./saving.js"
import { statusLine, stageLine } from "./status.js"
import { text } from "./texts.js"

const CAN_GO_ON = new Set(["stopped", "kept"])

/**
 * The live view of one node. `show` takes a run; `root` is its element.
 * @param {any} node
 */
export function makePanel(node) {
  const stage = element("span", "stage")
  const status = element("span", "status")
  const error = element("p", "error")
  const chart = makeChart()
  const grid = makeGrid(keep)
  const previews = makePreviews(grid.open)
  const saving = makeSaving(node, () => log.focus({ preventScroll: true }))
  const log = button(text("log"), text("log_title"), () => setLog(!isLog))
  const action = button(text("stop"), text("stop_title"), act)
  const controls = element("div", "controls", [stage, status, makeFolding(node), log, action])
  const views = element("div", "views", [chart.root, previews.root])
  const root = element("div", "personalize-live", [controls, error, views, saving.root])
  let isLog = false
  let frame = 0
  let asking = false
  let held = false
  /** @type {(() => Promise<any>) | null} */
  let wish = null
  /** @type {any} */
  const panel = { root, run: null, isNew: false, show, ask, fail, redraw, close: grid.remove }
  stage.setAttribute("role", "status")
  error.setAttribute("role", "alert")
  error.hidden = true
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", text("panel"))
  log.setAttribute("aria-pressed", "false")
  action.addEventListener("focus", () => (held = true))
  action.addEventListener("blur", () => (held = action.disabled))
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

  /** Show an answer of the server, unless news that came while it was under way tell more. */
  function showHistory(history, before) {
    const otherBegan = panel.run !== before && !isSame(panel.run, before ?? {})
    if (isSame(panel.run, history) ? !isBehind(history, panel.run) : !otherBegan) show(fromHistory(history))
  }

  /** Show that the node failed, unless the server has told so itself. */
  function fail(news) {
    if (!isSame(panel.run, news) || panel.run.stage !== "failed") show(failed(panel.run, news))
  }

  /**
   * Ask for a whole history, once at a time: what is asked for meanwhile comes next, since the answer under way may
   * be older than what made somebody ask.
   */
  async function ask(fetchHistory) {
    wish = fetchHistory
    if (asking) return
    asking = true
    try {
      while (wish) {
        const fetchNext = wish
        const before = panel.run
        wish = null
        const history = await fetchNext()
        if (history) showHistory(history, before)
      }
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
    status.title = status.textContent
    const told = run.error || run.warning || ""
    setText(error, told)
    error.hidden = !told
    error.classList.toggle("warning", !run.error)
    chart.draw(run, isLog)
    previews.draw(run, isNew)
    grid.draw(run)
    saving.draw(run)
    drawAction()
  }

  function drawAction() {
    const run = panel.run
    const canGoOn = CAN_GO_ON.has(run?.stage) && run.resumable
    setText(action, text(canGoOn ? "go_on" : "stop"))
    action.title = text(canGoOn ? "go_on_title" : "stop_title")
    action.disabled = !canGoOn && run?.stage !== "running"
    if (held && !action.disabled) focusAgain()
  }

  /** A button that is disabled while it waits loses the focus to nowhere; unless the user has moved it, it comes back. */
  function focusAgain() {
    if (document.activeElement === document.body) action.focus({ preventScroll: true })
    held = document.activeElement === action
  }

  async function act() {
    const run = panel.run
    action.disabled = true
    if (run.stage !== "running") await queueIf(continueRun(run))
    else if (!(await stopRun(run))) await askAgain(run)
  }

  /** Have the concept of an earlier step, from its kept training state. */
  function keep(step) {
    return queueIf(keepStep(panel.run, step))
  }

  async function queueIf(granted) {
    const run = panel.run
    if (await granted) await app.queuePrompt(0)
    else await askAgain(run)
  }

  const askAgain = (run) => ask(() => fetchRun(run.prompt, run.node))

  return panel
}
