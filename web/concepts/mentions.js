// Placeholders as they are written in a prompt; the same rules as concepts/placeholders.py.

const NAME = "[\\p{L}\\p{N}][\\p{L}\\p{N}_.+-]*"
const WEIGHT = "\\d+(?:\\.\\d*)?|\\.\\d+"
const OTHERS = "(?:lora|lyco|hypernet):" // of other programs
const OPEN = "[<\\uff1c]\\s*" // also the full-width brackets of other keyboards
const CLOSE = "\\s*[>\\uff1e]"
const WRITTEN = new RegExp(
  `(?:embedding:)?${OPEN}(?!${OTHERS})(${NAME})(?::(?!(?:${WEIGHT})${CLOSE})(${NAME}))?(?::(${WEIGHT}))?${CLOSE}`,
  "giu",
)
const NEAR = 0.6 // part of the letters that must agree

/**
 * @typedef {{start: number, end: number, placeholder: string, word: string, weight: string, exact: boolean}} Mention
 * word: without the weight, as a concept knows it
 * exact: written in plain brackets without space; other spellings may mean something else
 */

/**
 * @param {string} text
 * @returns {Mention[]}
 */
export const mentionsIn = (text) =>
  [...text.matchAll(WRITTEN)].map(({ index, 0: whole, 1: name, 2: attribute, 3: weight }) => ({
    start: index,
    end: index + whole.length,
    placeholder: `<${name}>`,
    word: attribute ? `<${name}:${attribute}>` : `<${name}>`,
    weight: weight ?? "",
    exact: whole.startsWith(`<${name[0]}`),
  }))

/**
 * The word that this one may be a misspelling of, "" when none is near.
 * @param {string} word
 * @param {Iterable<string>} known
 */
export function nearestWord(word, known) {
  const wanted = word.toLowerCase()
  const ranked = [...known]
    .map((one) => ({ one, likeness: 1 - distance(wanted, one.toLowerCase()) / Math.max(wanted.length, one.length) }))
    .filter(({ likeness }) => likeness >= NEAR)
    .sort((a, b) => b.likeness - a.likeness)
  return ranked[0]?.one ?? ""
}

/** Letters to add, remove, change or swap between two words. */
function distance(one, other) {
  let before = []
  let last = [...Array(other.length + 1).keys()]
  for (let i = 1; i <= one.length; i++) {
    const row = [i]
    for (let j = 1; j <= other.length; j++) {
      const change = one[i - 1] === other[j - 1] ? 0 : 1
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + change)
      const swapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]
      if (swapped) row[j] = Math.min(row[j], before[j - 2] + 1)
    }
    before = last
    last = row
  }
  return last[other.length]
}
