// Load Concept and Apply Concept for a saved concept, made by a button or by dropping its card on the canvas.

import { app } from "../../../scripts/app.js"
import { allNodes } from "../graph.js"
import { setWidget, widgetOf } from "../node_elements.js"
import { APPLY, LOAD } from "./workflow.js"

export const DRAGGED = "application/x-personalize-concept"
const GAP = 60

/** Take cards that are dropped on the canvas, before the frontend looks for files in them. */
export function acceptDrops() {
  window.addEventListener("dragover", (event) => isOurs(event) && take(event), true)
  window.addEventListener("drop", onDrop, true)
}

/** Add both nodes, linked; position in canvas coordinates, by default the middle of the view. */
export function addNodes(name, position = middle()) {
  const graph = app.canvas.graph
  const load = LiteGraph.createNode(LOAD)
  const apply = LiteGraph.createNode(APPLY)
  graph.beforeChange()
  load.pos = [...position]
  graph.add(load)
  apply.pos = [position[0] + load.size[0] + GAP, position[1]]
  graph.add(apply)
  setName(load, name)
  load.connect(0, apply, apply.inputs.findIndex((input) => input.name === "concept"))
  graph.afterChange()
  app.canvas.selectItems?.([load, apply])
}

/** Nodes that load a renamed concept load it by its new name. */
export function followRename(name, wanted) {
  for (const node of allNodes()) if (node.type === LOAD && nameWidget(node)?.value === name) setName(node, wanted)
}

const nameWidget = (node) => widgetOf(node, "concept_name")
const setName = (node, name) => setWidget(nameWidget(node), name)

function middle() {
  const { left, top, width, height } = app.canvas.canvas.getBoundingClientRect()
  return app.clientPosToCanvasPos([left + width / 3, top + height / 3])
}

function onDrop(event) {
  if (!isOurs(event)) return
  take(event)
  addNodes(event.dataTransfer.getData(DRAGGED), app.clientPosToCanvasPos([event.clientX, event.clientY]))
}

function isOurs(event) {
  const onCanvas = event.target instanceof Element && event.target.closest("#graph-canvas-container, canvas")
  return onCanvas && event.dataTransfer?.types.includes(DRAGGED)
}

function take(event) {
  event.preventDefault()
  event.stopPropagation()
  event.dataTransfer.dropEffect = "copy"
}
