// Where a concept is to be applied in a graph: behind the checkpoint, its LoRAs and the concepts that are applied
// already, before all that they feed.

import { sourceOf } from "../graph.js"
import { APPLY } from "./workflow.js"

/**
 * @typedef {{node: any, slot: number}} End a node's output
 * @typedef {{model: End, clip: End}} Place
 */

/**
 * The place for a concept, null when the graph has no models to apply one to.
 * @param {any} graph
 * @param {any} [prompt] a node of the graph whose `clip` the concept is for
 * @returns {Place | null}
 */
export function placeIn(graph, prompt) {
  const places = graph.nodes.map(bothOf).filter(Boolean)
  const ends = places.filter(({ model }) => !feedsAnother(model.node, places))
  const wanted = prompt && ends.find(({ model }) => isBefore(model.node, prompt))
  return wanted ?? ends.sort((one, other) => fed(other) - fed(one))[0] ?? apart(graph)
}

/** The links of an output that go where the concept shall act: on to prompts and samplers, not to trainings. */
export function linksToMove({ node, slot }) {
  const links = (node.outputs[slot].links ?? []).map((id) => node.graph.getLink(id))
  return links.filter((link) => link && !link.targetIsIoNode && takesApplied(node.graph.getNodeById(link.target_id)))
}

const takesApplied = (node) => node && (node.type === APPLY || !node.type.startsWith("Personalize"))

/** A node with both outputs, such as a checkpoint, a LoRA or Apply Concept. */
function bothOf(node) {
  const [model, clip] = [outputOf(node, "MODEL"), outputOf(node, "CLIP")]
  return model && clip && { model, clip }
}

function outputOf(node, type) {
  const slot = node.outputs?.findIndex((output) => output.type === type) ?? -1
  return slot < 0 ? null : { node, slot }
}

const feedsAnother = (node, places) =>
  places.some(({ model }) => model.node !== node && sourceOf(model.node, "clip")?.node === node)

const fed = ({ model, clip }) => linksToMove(model).length + linksToMove(clip).length

function isBefore(node, prompt) {
  for (let source = sourceOf(prompt, "clip"); source; source = sourceOf(source.node, "clip"))
    if (source.node === node) return true
  return false
}

/** Model and CLIP from loaders of their own. */
function apart(graph) {
  const [models, clips] = ["MODEL", "CLIP"].map((type) =>
    graph.nodes.map((node) => outputOf(node, type)).filter((end) => end && linksToMove(end).length && !hasInput(end.node, type)),
  )
  return models.length === 1 && clips.length === 1 ? { model: models[0], clip: clips[0] } : null
}

const hasInput = (node, type) => node.inputs?.some((input) => input.type === type)
