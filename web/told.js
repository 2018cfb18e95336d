// A line under a node, with what the server tells of its last run: what was saved and where, or why it failed.
// The host's own such line keeps some 40 listeners for each message in Nodes 2.0.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt, workflowId } from "./graph.js"
import { addElement, loadStyle } from "./node_elements.js"

const EVENT = "personalize.told"
const LEAST = 44 // pixels on the classic canvas
const MOST = 164 // a longer text scrolls
const AROUND = 20 // what the classic canvas leaves free around an element
const lines = new WeakMap()
const failures = new Set()

app.registerExtension({
  name: "personalize.told",
  setup() {
    loadStyle("./told.css", import.meta.url)
    api.addEventListener(EVENT, ({ detail }) => onTold(detail))
    api.addEventListener("execution_start", forgetFailures)
  },
})

/** By the time that a node has run, another workflow may be shown, whose nodes have the same numbers. */
function onTold({ node: id, text, workflow, failed }) {
  if (workflow && workflow !== workflowId()) return
  const node = nodeAt(id)
  if (!node?.comfyClass?.startsWith("Personalize")) return
  if (failed && node.comfyClass.startsWith("PersonalizeTrain")) return // its panel says so
  show(node, text, failed)
}

function show(node, text, failed = false) {
  if (!lines.has(node)) {
    if (!text) return
    lines.set(node, newLine(node))
  }
  const line = lines.get(node)
  line.textContent = line.title = text
  line.hidden = !text
  line.classList.toggle("failed", failed)
  if (failed) failures.add(node)
  else failures.delete(node)
  fit(node)
}

/** As high as its line needs. Nodes 2.0 keeps sizes by number: that of a node of a closed workflow is another's now. */
function fit(node) {
  if (node.graph?.getNodeById(node.id) === node) node.expandToFitContent?.()
}

/** What was wrong may have been mended. */
function forgetFailures() {
  for (const node of failures) show(node, "")
}

function newLine(node) {
  const line = document.createElement("p")
  line.className = "personalize-told"
  line.setAttribute("role", "status")
  const height = () => (line.hidden ? 0 : Math.min(Math.max(line.scrollHeight + AROUND, LEAST), MOST))
  addElement(node, "told", "personalize_told", line, { getMinHeight: height, getMaxHeight: height })
  new ResizeObserver(() => fit(node)).observe(line) // how high it is depends on how wide it is drawn
  return line
}
