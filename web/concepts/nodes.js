// Load Concept and Apply Concept for a saved concept: by a button, a choice in a prompt, or a card dropped on the canvas.

import { app } from "../../../scripts/app.js"
import { allNodes, besides, freePlace, inOneStep, inputSlot, sourceOf } from "../graph.js"
import { setWidget, widgetOf } from "../node_elements.js"
import { linksToMove, placeIn } from "./places.js"
import { showUsed } from "./used_inputs.js"
import { APPLY, LOAD, appliesOf, appliedTo, switchedOff } from "./workflow.js"

export const DRAGGED = "application/x-personalize-concept"
const BELOW = 50
const ALWAYS = 0 // mode of a node

/** Take cards that are dropped on the canvas, before the frontend looks for files in them. */
export function acceptDrops() {
  window.addEventListener("dragover", (event) => isOurs(event) && take(event), true)
  window.addEventListener("drop", onDrop, true)
}

/**
 * Load a concept and apply it: between the models of the shown graph and all that they feed, behind concepts that
 * are applied already. Without models, both nodes are only added. One step of undo.
 * @param {string} name of the saved concept
 * @param {{position?: [number, number], prompt?: any}} where position in canvas coordinates; the node of a prompt
 */
export function insertConcept(name, { position, prompt } = {}) {
  const graph = prompt?.graph ?? app.canvas.graph
  const place = placeIn(graph, prompt)
  inOneStep(graph, () => {
    const load = LiteGraph.createNode(LOAD)
    load.pos = freePlace(graph, load.size, position ?? (place ? below(place.clip.node) : middle()))
    graph.add(load)
    setName(load, name)
    const apply = addApply({ node: load, output: 0 }, place)
    if (!prompt) app.canvas.selectItems?.([load, apply])
  })
}

/** Apply the concept of a node's output, beside that node. */
function addApply({ node, output }, place) {
  const apply = LiteGraph.createNode(APPLY)
  apply.pos = freePlace(node.graph, apply.size, besides(node))
  node.graph.add(apply)
  node.connect(output, apply, inputSlot(apply, "concept"))
  if (place) putBetween(apply, place)
  showUsed(apply, true)
  return apply
}

/** All that the models feed is fed by the new node. */
function putBetween(apply, { model, clip }) {
  for (const [output, end, input] of [[0, model, "model"], [1, clip, "clip"]]) {
    for (const link of linksToMove(end)) apply.connect(output, apply.graph.getNodeById(link.target_id), link.target_slot)
    end.node.connect(end.slot, apply, inputSlot(apply, input))
  }
}

/**
 * Make a prompt know a concept, and all that it knows already: by an Apply Concept that is there, switched off or not,
 * by one more for what is loaded already, else by both nodes.
 * @param {any} prompt the node
 * @param {string} placeholder
 * @param {string} [name] of the saved concept
 * @returns {boolean} whether it could be done
 */
export function applyTo(prompt, placeholder, name) {
  const known = wordsAt(prompt)
  if (known.includes(placeholder)) return true
  const { graph } = prompt
  const applies = appliesOf(placeholder).filter((apply) => apply.graph === graph)
  const there = applies.find((apply) => known.every((word) => wordsAt(apply).includes(word)))
  const place = placeIn(graph, prompt)
  const made = applies.map((apply) => sourceOf(apply, "concept")).find((source) => source?.node.graph === graph)
  const off = switchedOff(prompt, placeholder)
  if (off) inOneStep(graph, () => (off.mode = ALWAYS))
  else if (there) connectClip(there, prompt)
  else if (place && made) inOneStep(graph, () => addApply(made, place))
  else if (place && name) insertConcept(name, { prompt })
  else return false
  return true
}

const wordsAt = (node) => appliedTo(node).cards.map(({ placeholder }) => placeholder)

function connectClip(apply, prompt) {
  inOneStep(apply.graph, () => apply.connect(1, prompt, inputSlot(prompt, "clip")))
}

/** Nodes that load a renamed concept load it by its new name. */
export function followRename(name, wanted) {
  for (const node of allNodes()) if (node.type === LOAD && nameWidget(node)?.value === name) setName(node, wanted)
}

const nameWidget = (node) => widgetOf(node, "concept_name")
const setName = (node, name) => setWidget(nameWidget(node), name)
const below = (node) => [node.pos[0], node.pos[1] + node.size[1] + BELOW]

function middle() {
  const { left, top, width, height } = app.canvas.canvas.getBoundingClientRect()
  return app.clientPosToCanvasPos([left + width / 3, top + height / 3])
}

function onDrop(event) {
  if (!isOurs(event)) return
  take(event)
  const position = app.clientPosToCanvasPos([event.clientX, event.clientY])
  insertConcept(event.dataTransfer.getData(DRAGGED), { position })
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
