// Words that a prompt may use for concepts, and which of them fit what is typed. Pure functions.

/** All words as {word, name, method, applied, attribute}, each once; cards of applied concepts come first. */
export function knownWords(appliedCards, concepts) {
  const applied = appliedCards.map((card) => ({ card, name: "", applied: true }))
  const saved = concepts.filter(({ card }) => card).map(({ card, name }) => ({ card, name, applied: false }))
  const words = new Map()
  for (const { card, name, applied: isApplied } of [...applied, ...saved]) {
    for (const word of [card.placeholder, ...card.attributes]) {
      const known = words.get(word)
      const entry = { word, name, method: card.method_name, applied: isApplied, attribute: word !== card.placeholder }
      if (!known) words.set(word, entry)
      else known.name ||= name
    }
  }
  return [...words.values()]
}

/** Words that have the typed text in them: applied ones first, then those that begin with it, bare ones before attributes. */
export function fittingWords(typed, words) {
  const wanted = typed.toLowerCase()
  const begins = ({ word }) => word.toLowerCase().startsWith(wanted, 1)
  const rank = (entry) => [!entry.applied, !begins(entry), entry.attribute]
  return words
    .filter(({ word }) => word.toLowerCase().slice(1, -1).includes(wanted))
    .sort((one, other) => compare(rank(one), rank(other)) || one.word.localeCompare(other.word, undefined, { numeric: true }))
}

function compare(one, other) {
  const at = one.findIndex((value, n) => value !== other[n])
  return at < 0 ? 0 : one[at] - other[at]
}

/** What is being typed before the caret: {start, typed} of an open "<...", or null. */
export function openWord(text, caret) {
  const match = /<([^\s<>]*)$/.exec(text.slice(0, caret))
  return match && { start: match.index, typed: match[1] }
}
