// The shown workflow: its nodes by execution id, where a node's input comes from, and free places.

import { app } from "../../scripts/app.js"

const GAP = 60
const TITLE = 40 // pixels above a node's place that its title takes, and some air
const FOOT = 50 // pixels that Nodes 2.0 may add under a node once it is drawn: a badge, a button for more inputs
const MOST_HOPS = 100
const FRAMES = 4 // until a new node has been drawn and measured

/** @returns {any} the graph of the whole workflow */
export const rootGraph = () => app.rootGraph ?? app.graph

/** Id of the workflow that is shown. */
export const workflowId = () => String(rootGraph()?.id ?? "")

/**
 * All nodes of the workflow, those in subgraphs too.
 * @returns {Generator<any>}
 */
export function* allNodes(graph = rootGraph()) {
  for (const node of graph?.nodes ?? []) {
    yield node
    if (node.subgraph) yield* allNodes(node.subgraph)
  }
}

/**
 * The node of an execution id: "7", or "12:7" for node 7 in the subgraph of node 12.
 * @param {string | number} executionId
 * @returns {any}
 */
export function nodeAt(executionId) {
  const path = String(executionId).split(":")
  const last = path.pop()
  let graph = rootGraph()
  for (const id of path) graph = graph?.getNodeById(id)?.subgraph
  return graph?.getNodeById(last) ?? null
}

/**
 * @param {any} node
 * @param {string} name
 * @returns {number} the input of that name, -1 for none
 */
export const inputSlot = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1

/**
 * What an input comes from: the node and its output, through reroutes and the borders of subgraphs.
 * @param {any} node
 * @param {string} name of the input
 * @returns {{node: any, output: number} | null}
 */
export function sourceOf(node, name) {
  let at = { node, slot: inputSlot(node, name) }
  for (let hops = 0; at && at.slot >= 0 && hops < MOST_HOPS; hops++) {
    const origin = originOf(at.node, at.slot)
    if (!origin) return null
    if (!origin.input) return origin
    at = origin.input
  }
  return null
}

/** The node before an input; `input` instead, where the way goes on through another input. */
function originOf({ graph, inputs }, slot) {
  const link = graph?.getLink(inputs[slot]?.link)
  if (!link) return null
  if (link.originIsIoNode) {
    const outside = holderOf(graph)
    return outside && { input: { node: outside, slot: link.origin_slot } }
  }
  const node = graph.getNodeById(link.origin_id)
  if (!node) return null
  if (node.type === "Reroute") return { input: { node, slot: 0 } }
  return node.subgraph ? insideOf(node.subgraph, link.origin_slot) : { node, output: link.origin_slot }
}

/** What comes out of a subgraph's output. */
function insideOf(subgraph, output) {
  const link = subgraph.getLink(subgraph.outputNode?.slots[output]?.linkIds?.[0])
  if (!link) return null
  if (link.originIsIoNode) return { input: { node: holderOf(subgraph), slot: link.origin_slot } }
  const node = subgraph.getNodeById(link.origin_id)
  if (!node) return null
  if (node.type === "Reroute") return { input: { node, slot: 0 } }
  return node.subgraph ? insideOf(node.subgraph, link.origin_slot) : { node, output: link.origin_slot }
}

/** The node that a subgraph is; of several the first. */
function holderOf(subgraph) {
  for (const node of allNodes()) if (node.subgraph === subgraph) return node
  return null
}

/**
 * Change a graph so that one undo takes all of it back, and one redo brings it again.
 *
 * The frontend takes note of the graph only when new nodes have been drawn: Nodes 2.0 measures them then, and what it
 * measured would be a step of its own, which a click between undo and redo would turn into the last one. A key that
 * is pressed sooner may be an undo, which takes back only what is noted.
 * @param {any} graph
 * @param {() => void} act
 */
export function inOneStep(graph, act) {
  graph.beforeChange()
  try {
    act()
  } finally {
    graph.updateExecutionOrder() // as the graph will have it after a redo: else that is a change, too
    graph.afterChange()
    void Promise.race([drawn(), keyPressed()]).then(takeNote)
  }
}

/** Resolves before the frontend acts on the key, which it does a frame later. */
function keyPressed() {
  return new Promise((resolve) => window.addEventListener("keydown", resolve, { capture: true, once: true }))
}

function takeNote() {
  app.canvas.emitBeforeChange()
  app.canvas.emitAfterChange()
}

/** A few frames, or a second where nothing is drawn because nobody looks. */
function drawn() {
  const frames = new Promise((resolve) => {
    const next = (left) => (left ? requestAnimationFrame(() => next(left - 1)) : resolve(undefined))
    next(FRAMES)
  })
  return Promise.race([frames, new Promise((resolve) => setTimeout(resolve, 1000))])
}

/**
 * The first place at or below the wanted one where a node of this size lies on no other.
 * @param {any} graph
 * @param {[number, number]} size
 * @param {[number, number]} wanted
 * @returns {[number, number]}
 */
export function freePlace(graph, size, wanted) {
  const [x, top] = wanted
  const width = size[0]
  const height = size[1] + (LiteGraph.vueNodesMode ? FOOT : 0)
  const boxes = graph.nodes.map((node) => [...node.pos, ...drawnSize(node)])
  let y = top
  for (;;) {
    const inTheWay = boxes.filter(
      ([left, up, wide, high]) =>
        left < x + width + GAP / 2 && x < left + wide + GAP / 2 && up - TITLE < y + height && y - TITLE < up + high,
    )
    if (!inTheWay.length) return [x, y]
    y = Math.max(...inTheWay.map(([, up, , high]) => up + high)) + TITLE + 10
  }
}

/** As large as a node is seen: from frontend 1.58 on at the latest, Nodes 2.0 does not write that into `size`. */
const drawnSize = (node) => node.renderingSize ?? node.size

/**
 * The place to the right of a node.
 * @param {any} node
 * @returns {[number, number]}
 */
export const besides = (node) => [node.pos[0] + drawnSize(node)[0] + GAP, node.pos[1]]
