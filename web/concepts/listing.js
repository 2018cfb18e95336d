// Which concepts the sidebar shows, in what order, and which are versions of one. Pure functions.

const NUMBERED = /-(\d+)$/
const ENDING = /\.(safetensors|sft|pth|pt|bin|ckpt)$/i
const byName = new Intl.Collator(undefined, { numeric: true }).compare

/**
 * @typedef {{name: string, card: import("./workflow.js").Card & {base: string, steps: number, planned: number} | null,
 *   problem: string, hides: string, changed: number, thumbnail: number, sheet: number}} Saved
 * @typedef {{search: string, method: string, base: string, sort: "newest" | "name", favourites: boolean}} Wishes
 * empty texts: any
 */

/** @param {string} name of a file */
export const stem = (name) => name.replace(ENDING, "")

/**
 * Groups of versions, the newest of each first.
 * @param {Saved[]} concepts
 * @param {Wishes} wishes
 * @param {(name: string) => boolean} isFavourite
 * @returns {Saved[][]}
 */
export function listed(concepts, wishes, isFavourite) {
  const fitting = concepts.filter((one) => fits(one, wishes) && (!wishes.favourites || isFavourite(one.name)))
  const groups = new Map()
  for (const concept of fitting) {
    const key = versionKey(concept)
    groups.set(key, [...(groups.get(key) ?? []), concept])
  }
  const newest = (one, other) => other.changed - one.changed || byName(one.name, other.name)
  const order = wishes.sort === "newest" ? newest : (one, other) => byName(one.name, other.name)
  return [...groups.values()].map((group) => group.sort(newest)).sort(([one], [other]) => order(one, other))
}

/** Files that Save Concept numbered, of one placeholder, method and base: my-dog, my-dog-2, my-dog-3. */
function versionKey({ name, card }) {
  if (!card) return name
  return JSON.stringify([stem(name).replace(NUMBERED, ""), card.placeholder, card.method, card.base])
}

function fits({ name, card }, { search, method, base }) {
  if ((method && card?.method !== method) || (base && card?.base !== base)) return false
  const told = [name, card?.placeholder, card?.class_word, card?.method_name, card?.base_title]
  const all = told.join(" ").toLowerCase()
  return search.toLowerCase().split(/\s+/).every((word) => all.includes(word))
}

/**
 * The values that the cards have for a trait, with their texts.
 * @param {Saved[]} concepts
 * @param {"method" | "base"} value
 * @param {"method_name" | "base_title"} shown
 * @returns {[string, string][]}
 */
export function traits(concepts, value, shown) {
  const found = new Map(concepts.flatMap(({ card }) => (card ? [[card[value], card[shown]]] : [])))
  return [...found].sort(([, one], [, other]) => byName(one, other))
}
