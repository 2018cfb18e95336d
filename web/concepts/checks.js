// What the words in angle brackets of a prompt come to: applied, a concept that is not applied here, or unknown.

import { mentionsIn, nearestWord } from "./mentions.js"
import { allConcepts } from "./shelf.js"
import { appliedCards, appliedTo } from "./workflow.js"

/** What the server told of the last run of a node: its text, and the words that it took for plain text. */
const told = new WeakMap()

/**
 * @param {any} node
 * @param {{text: string, recognised?: string[], unknown: string[]}} news
 */
export const keepTold = (node, news) => told.set(node, news)

/**
 * @typedef {import("./mentions.js").Mention & {status: "elsewhere" | "unknown", nearest: string, name: string}} Doubt
 * nearest: the word that is meant, perhaps; name: of the saved concept that has the word
 */

/**
 * The words of a prompt that stay plain text.
 * @param {any} node that encodes it
 * @param {string} text
 * @returns {Doubt[]}
 */
export function doubtsOf(node, text) {
  const mentions = mentionsIn(text)
  if (!mentions.length) return []
  const { cards, sure } = appliedTo(node)
  const here = new Set(cards.flatMap(wordsOf))
  const open = new Set(cards.filter(mayHaveMore).map(({ placeholder }) => placeholder))
  const news = told.get(node)?.text === text ? told.get(node) : null
  const elsewhere = concepts()
  return mentions
    .filter(({ word }) => !here.has(word) && !news?.recognised?.includes(word))
    .filter(({ word, placeholder }) => (sure && (word === placeholder || !open.has(placeholder))) || news?.unknown.includes(word))
    .map((mention) => doubt(mention, [...here], elsewhere))
    .filter(({ status, nearest, exact }) => status === "elsewhere" || nearest || (exact && cards.length))
}

/**
 * Of a concept that has yet to be learned nobody knows the attribute words, such as poses.
 * @param {import("./workflow.js").Card} card
 */
const mayHaveMore = ({ name, attributes }) => !name && !attributes.length

function doubt(mention, here, elsewhere) {
  const having = elsewhere.find(({ words }) => words.includes(mention.word))
  if (having) return { ...mention, status: "elsewhere", nearest: "", name: having.name }
  const nearest = nearestWord(mention.word, here) || nearestWord(mention.word, elsewhere.flatMap(({ words }) => words))
  return { ...mention, status: "unknown", nearest, name: "" }
}

/** @typedef {import("./listing.js").Saved & {card: import("./workflow.js").Card}} Readable */

/** Those of the workflow, then those of the shelf; of several with one word, the one that was chosen last. */
function concepts() {
  const saved = /** @type {Readable[]} */ (allConcepts().filter(({ card }) => card))
  const chosenFirst = saved.sort((one, other) => Number(other.name === lastChosen) - Number(one.name === lastChosen))
  return [
    ...appliedCards().map((card) => ({ name: card.name ?? "", words: wordsOf(card) })),
    ...chosenFirst.map(({ name, card }) => ({ name, words: wordsOf(card) })),
  ]
}

const wordsOf = (card) => [card.placeholder, ...card.attributes]

let lastChosen = ""

/** @param {string} name of the saved concept that was written last; others may have its placeholder */
export const noteChoice = (name) => (lastChosen = name)
