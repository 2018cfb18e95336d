// A line under a node, with what the server tells of its last run: what was saved and where, say.
// The host's own such line keeps some 40 listeners for each message in Nodes 2.0.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./graph.js"
import { addElement, loadStyle } from "./node_elements.js"

const EVENT = "personalize.told"
const HEIGHT = 44
const lines = new WeakMap()

app.registerExtension({
  name: "personalize.told",
  setup() {
    loadStyle("./told.css", import.meta.url)
    api.addEventListener(EVENT, ({ detail }) => show(nodeAt(detail.node), detail.text))
  },
})

function show(node, text) {
  if (!node?.comfyClass?.startsWith("Personalize")) return
  if (!lines.has(node)) lines.set(node, newLine(node))
  const line = lines.get(node)
  line.textContent = line.title = text
}

function newLine(node) {
  const line = document.createElement("p")
  line.className = "personalize-told"
  line.setAttribute("role", "status")
  const size = { getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT }
  addElement(node, "told", "personalize_told", line, size)
  node.expandToFitContent?.()
  return line
}
