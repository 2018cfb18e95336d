// What the shown workflow says of concepts: which are applied, and what each node will make of its inputs.

import { allNodes } from "../graph.js"
import { widgetOf } from "../node_elements.js"
import { conceptNamed, madeBy } from "./shelf.js"

export const LOAD = "PersonalizeLoadConcept"
export const APPLY = "PersonalizeApplyConcept"

const OFF = new Set([2, 4]) // modes of a node: never, bypass

/** Cards of the concepts that are applied in this workflow. */
export function appliedCards() {
  const applying = [...allNodes()].filter((node) => node.type === APPLY && !OFF.has(node.mode))
  return applying.map(cardOf).filter(Boolean)
}

/** Card of the concept that a Load or Apply node has: as it will be, else as it was at its last run; null if unknown. */
export function cardOf(node) {
  const expected = node.type === APPLY ? madeCard(source(node, "concept")) : madeCard(node)
  const known = node.personalizeCard
  if (!expected) return known ?? null
  return known && isSame(known, expected) ? known : expected
}

function isSame(one, other) {
  return ["method", "placeholder", "class_word"].every((key) => one[key] === other[key])
}

function madeCard(node) {
  if (!node) return null
  return node.type === LOAD ? loadedCard(node) : trainedCard(node)
}

function loadedCard(node) {
  const card = conceptNamed(valueOf(node, "concept_name"))?.card
  if (!card) return null
  const placeholder = valueOf(node, "placeholder").trim() || card.placeholder
  const classWord = valueOf(node, "class_word").trim() || card.class_word
  const attributes = card.attributes.map((word) => placeholder.slice(0, -1) + word.slice(card.placeholder.length - 1))
  return { ...card, attributes, ...written(placeholder, classWord, card.write !== card.placeholder) }
}

function trainedCard(node) {
  const made = madeBy(node.type)
  if (!made) return null
  const placeholder = valueOf(node, "placeholder").trim()
  const classWord = (valueOf(node, "class_word") || valueOf(node, "init_word")).trim()
  return { ...made, base_title: "", attributes: [], ...written(placeholder, classWord, made.with_class_word) }
}

function written(placeholder, classWord, together) {
  const write = together && classWord ? `${placeholder} ${classWord}` : placeholder
  return { placeholder, class_word: classWord, write }
}

function valueOf(node, name) {
  const value = widgetOf(node, name)?.value
  return typeof value === "string" ? value : ""
}

/** The node that an input comes from, through reroutes of one input. */
function source(node, inputName) {
  let slot = node.inputs?.findIndex((input) => input.name === inputName) ?? -1
  for (let hops = 0; node && slot >= 0 && hops < 20; hops++) {
    node = node.getInputNode(slot)
    if (node?.type !== "Reroute") return node
    slot = 0
  }
  return null
}
