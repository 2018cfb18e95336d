// The shown workflow: its nodes by execution id, what a node's input comes from, and free places.

import { app } from "../../scripts/app.js"

const GAP = 60
const TITLE = 40 // pixels above a node's place that its title takes, and some air

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
 * The first place at or below the wanted one where a node of this size lies on no other.
 * @param {any} graph
 * @param {[number, number]} size
 * @param {[number, number]} wanted
 * @param {any[]} but nodes that do not count
 * @returns {[number, number]}
 */
export function freePlace(graph, size, wanted, but = []) {
  const [x, top] = wanted
  const [width, height] = size
  const others = graph.nodes.filter((node) => !but.includes(node))
  let y = top
  for (;;) {
    const inTheWay = others.filter(
      ({ pos, size: other }) =>
        pos[0] < x + width + GAP / 2 && x < pos[0] + other[0] + GAP / 2 && pos[1] - TITLE < y + height && y - TITLE < pos[1] + other[1],
    )
    if (!inTheWay.length) return [x, y]
    y = Math.max(...inTheWay.map(({ pos, size: other }) => pos[1] + other[1])) + TITLE + 10
  }
}

/** To the right of a node. */
export const besides = (node) => [node.pos[0] + node.size[0] + GAP, node.pos[1]]
