import { addElement, afterwards, loadStyle } from "../node_elements.js"
import { makePanel } from "./panel.js"
import { fetchRun } from "./requests.js"
import { isSame } from "./run.js"

const HEIGHT = 200
const ofNode = new WeakMap()

/** The panels of all nodes that are there. */
export const panels = new Set()

/** @param {any} node */
export const panelOf = (node) => (node ? ofNode.get(node) : undefined)

/**
 * Give a new Train node its live view.
 * @param {any} node
 */
export function attachPanel(node) {
  if (!node.comfyClass?.startsWith("PersonalizeTrain")) return
  loadStyle("./live.css", import.meta.url)
  const panel = makePanel(node)
  addElement(node, "live_training", "personalize_live", panel.root, { getMinHeight: () => HEIGHT })
  node.setSize([node.size[0], node.computeSize()[1]]) // it was made as high as all inputs are
  ofNode.set(node, panel)
  panels.add(panel)
  afterwards(node, "onRemoved", () => forget(panel))
  afterwards(node, "onExecuted", (output) => showExecuted(panel, output))
  afterwards(node, "onConnectionsChange", () => queueMicrotask(panel.redraw))
}

function forget(panel) {
  panels.delete(panel)
  panel.close()
}

/** The host tells a node's output again when its cache answers: the last curve is shown. */
function showExecuted(panel, output) {
  const [prompt, node] = output?.personalize_live ?? []
  if (!prompt || document.hidden || isSame(panel.run, { prompt, node })) return
  panel.ask(() => fetchRun(prompt, node))
}
