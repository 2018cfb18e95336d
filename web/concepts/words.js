// Words that a prompt may use for concepts, and which of them fit what is typed. Pure functions.

/**
 * @typedef {import("./workflow.js").Card} Card
 * @typedef {object} Word
 * @property {string} word as a prompt names it: "<me>"
 * @property {string} write what is put into the prompt: "<me> person"
 * @property {string} placeholder
 * @property {string} name of the saved concept, "" for one that is not saved
 * @property {string} method for people
 * @property {boolean} applied
 * @property {boolean} attribute
 */

/**
 * All words of the applied and of the saved concepts. Concepts of one placeholder are told apart by their names; a
 * saved one that is applied is there once.
 * @param {Card[]} appliedCards
 * @param {{name: string, card: Card | null}[]} concepts
 * @returns {Word[]}
 */
export function knownWords(appliedCards, concepts) {
  const applied = appliedCards.map((card) => ({ card, name: card.name ?? "", applied: true }))
  const names = new Set(applied.map(({ name }) => name).filter(Boolean))
  const others = concepts.filter(({ card, name }) => card && !names.has(name))
  const saved = others.map(({ card, name }) => ({ card, name, applied: false }))
  const words = new Map()
  for (const one of [...applied, ...saved])
    for (const entry of wordsOf(one)) {
      const key = `${entry.word} ${entry.name}`
      if (!words.has(key)) words.set(key, entry)
    }
  return [...words.values()]
}

/** @returns {Word[]} */
function wordsOf({ card, name, applied }) {
  const common = { placeholder: card.placeholder, name, method: card.method_name, applied }
  const main = { ...common, word: card.placeholder, write: card.write, attribute: false }
  return [main, ...card.attributes.map((word) => ({ ...common, word, write: word, attribute: true }))]
}

/**
 * Words that have the typed text in them: applied ones first, then those that begin with it, bare ones before attributes.
 * @param {string} typed
 * @param {Word[]} words
 */
export function fittingWords(typed, words) {
  const wanted = typed.toLowerCase()
  const begins = ({ word }) => word.toLowerCase().startsWith(wanted, 1)
  const rank = (entry) => [!entry.applied, !begins(entry), entry.attribute]
  return words
    .filter(({ word }) => word.toLowerCase().slice(1, -1).includes(wanted))
    .sort((one, other) => compare(rank(one), rank(other)) || byName(one.word, other.word) || byName(one.name, other.name))
}

const byName = (one, other) => one.localeCompare(other, undefined, { numeric: true })

function compare(one, other) {
  const at = one.findIndex((value, n) => value !== other[n])
  return at < 0 ? 0 : Number(one[at]) - Number(other[at])
}

/**
 * What is being typed before the caret: {start, typed} of an open "<...", or null.
 * @param {string} text
 * @param {number} caret
 */
export function openWord(text, caret) {
  const match = /<([^\s<>]*)$/.exec(text.slice(0, caret))
  return match && { start: match.index, typed: match[1] }
}
