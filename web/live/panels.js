import { addElement, afterwards } from "../node_elements.js"
import { makePanel } from "./panel.js"
import { fetchRun } from "./requests.js"
import { isSame } from "./run.js"

const HEIGHT = 200
const ofNode = new WeakMap()

/** The panels of all nodes that are there. */
export const panels = new Set()

export const panelOf = (node) => (node ? ofNode.get(node) : undefined)

/** Give a new Train node its live view. */
export function attachPanel(node) {
  if (!node.comfyClass?.startsWith("PersonalizeTrain")) return
  loadStyle()
  const panel = makePanel()
  addElement(node, "live_training", "personalize_live", panel.root, { getMinHeight: () => HEIGHT })
  ofNode.set(node, panel)
  panels.add(panel)
  afterwards(node, "onRemoved", () => panels.delete(panel))
  afterwards(node, "onExecuted", (output) => showExecuted(panel, output))
}

/** The host tells a node's output again when its cache answers: the last curve is shown. */
function showExecuted(panel, output) {
  const [prompt, node] = output?.personalize_live ?? []
  if (!prompt || document.hidden || isSame(panel.run, { prompt, node })) return
  panel.ask(() => fetchRun(prompt, node))
}

function loadStyle() {
  const address = new URL("./live.css", import.meta.url).href
  if (document.querySelector(`link[href="${address}"]`)) return
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: address }))
}
