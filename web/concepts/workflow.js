// What the shown workflow says of concepts: which are applied, where, and what each node will make of its inputs.

import { allNodes, inputSlot, sourceOf } from "../graph.js"
import { widgetOf } from "../node_elements.js"
import { conceptNamed, madeBy } from "./shelf.js"

export const LOAD = "PersonalizeLoadConcept"
export const APPLY = "PersonalizeApplyConcept"

const OFF = new Set([2, 4]) // modes of a node: never, bypass

/**
 * @typedef {object} Card as concepts/cards.py makes it; `name` of the saved concept, "" for one that is not saved
 * @property {string} method
 * @property {string} method_name
 * @property {string} base_title
 * @property {string} placeholder
 * @property {string} class_word
 * @property {string} write what to write in a prompt
 * @property {string[]} attributes
 * @property {string} [name]
 */

/** Whether a node does not run: never, or bypassed. */
export const isOff = (node) => OFF.has(node.mode)

const isApply = (node) => node.type === APPLY && !isOff(node)

/** Cards of the concepts that are applied anywhere in this workflow. */
export const appliedCards = () =>
  /** @type {Card[]} */ ([...allNodes()].filter(isApply).map(cardOf).filter(Boolean))

/** The nodes that apply a concept of this placeholder. */
export const appliesOf = (placeholder) =>
  [...allNodes()].filter((node) => isApply(node) && cardOf(node)?.placeholder === placeholder)

/** The nodes that a node's CLIP comes through, the nearest first, the loader last. */
function* clipSources(node) {
  for (let source = sourceOf(node, "clip"); source; source = sourceOf(source.node, "clip")) yield source.node
}

/**
 * The node before a node's CLIP that would apply a concept of this placeholder, were it not switched off.
 * @param {any} node such as a text encoder
 * @param {string} placeholder
 */
export const switchedOff = (node, placeholder) =>
  [...clipSources(node)].find((one) => one.type === APPLY && isOff(one) && cardOf(one)?.placeholder === placeholder)

/**
 * The concepts that a node's CLIP knows.
 * @param {any} node such as a text encoder
 * @returns {{cards: Card[], sure: boolean}} sure: whether these are all
 */
export function appliedTo(node) {
  const cards = []
  let sure = true
  let last = node
  for (last of clipSources(node)) {
    if (!isApply(last)) continue
    const card = cardOf(last)
    if (card) cards.push(card)
    else sure = false
  }
  const isLoader = last !== node && !last.inputs?.some((input) => input.link != null)
  return { cards, sure: sure && isLoader }
}

/**
 * Card of the concept that a Load or Apply node has: as it will be, else as it was at its last run; null if unknown.
 * @param {any} node
 * @returns {Card | null}
 */
export function cardOf(node) {
  const expected = node.type === APPLY ? madeCard(sourceOf(node, "concept")?.node) : madeCard(node)
  const known = node.personalizeCard
  if (!expected) return known ?? null
  return known && isSame(known, expected) ? { ...known, name: expected.name } : expected
}

function isSame(one, other) {
  return ["method", "placeholder", "class_word"].every((key) => one[key] === other[key])
}

function madeCard(node) {
  if (!node) return null
  return node.type === LOAD ? loadedCard(node) : trainedCard(node)
}

function loadedCard(node) {
  const name = valueOf(node, "concept_name")
  const card = conceptNamed(name)?.card
  if (!card) return null
  const placeholder = valueOf(node, "placeholder").trim() || card.placeholder
  const classWord = valueOf(node, "class_word").trim() || card.class_word
  const attributes = card.attributes.map((word) => placeholder.slice(0, -1) + word.slice(card.placeholder.length - 1))
  return { ...card, name, attributes, ...written(placeholder, classWord, card.write !== card.placeholder) }
}

function trainedCard(node) {
  const made = madeBy(node.type)
  if (!made) return null
  const placeholder = valueOf(node, "placeholder").trim()
  const classWord = (valueOf(node, "class_word") || valueOf(node, "init_word")).trim()
  return { ...made, name: "", base_title: "", attributes: [], ...written(placeholder, classWord, made.with_class_word) }
}

function written(placeholder, classWord, together) {
  const write = together && classWord ? `${placeholder} ${classWord}` : placeholder
  return { placeholder, class_word: classWord, write }
}

function valueOf(node, name) {
  const value = widgetOf(node, name)?.value
  return typeof value === "string" ? value : ""
}

/** Is it a node that encodes what is written on it with a CLIP? */
export const isEncoder = (node) => inputSlot(node, "clip") >= 0 && !node.type.startsWith("Personalize")
