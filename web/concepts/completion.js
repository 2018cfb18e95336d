// Completion of placeholders in prompt fields: opens on "<", arrows choose, Enter or Tab takes, Escape closes.
// It listens on the document and takes only keys that it uses while it is open, so no other handler is replaced.

import { caretPosition } from "./caret.js"
import { applyChosen } from "./choosing.js"
import { lookAgain } from "./marks.js"
import { isPromptField, nodeOf, replaceText } from "./prompt_fields.js"
import { allConcepts, conceptNamed, onShelfChange, pictureOf } from "./shelf.js"
import { text } from "./texts.js"
import { appliedCards, appliedTo, isEncoder } from "./workflow.js"
import { fittingWords, knownWords, openWord } from "./words.js"

const MOST = 50
const LIST = "personalize-completion"
const KEYS = { ArrowDown: () => move(1), ArrowUp: () => move(-1), Enter: take, Tab: take, Escape: close }

let list = null
let field = null
let shown = []
let active = 0
let waiting = null // the field whose open word fits nothing yet

export function watchTyping() {
  document.addEventListener("input", onInput, true)
  document.addEventListener("keydown", onKeyDown, true)
  document.addEventListener("focusout", close, true)
  document.addEventListener("wheel", (event) => list?.contains(event.target) || close(), { capture: true, passive: true })
  window.addEventListener("resize", close)
  onShelfChange(suggestAgain)
}

/** The shelf came, or changed, after somebody typed. */
function suggestAgain() {
  const target = field ?? waiting
  const before = shown[active]
  if (!target || target !== document.activeElement) return
  onInput({ target })
  const again = shown.findIndex(({ word, name }) => word === before?.word && name === before.name)
  if (again > 0) move(again)
}

/** @param {any} event */
function onInput({ target, isComposing }) {
  if (isComposing || !isPromptField(target)) return
  const open = openWord(target.value, target.selectionStart)
  const words = open ? fittingWords(open.typed, knownWords(cardsAt(target), allConcepts())) : []
  waiting = open && !words.length ? target : null
  if (words.length) openList(target, words.slice(0, MOST))
  else close()
}

/** The concepts that a field's prompt knows; of a field on another node, those of the workflow. */
function cardsAt(field) {
  const node = nodeOf(field)
  return node && isEncoder(node) ? appliedTo(node).cards : appliedCards()
}

function onKeyDown(event) {
  const act = KEYS[event.key]
  const modified = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey
  if (!list || event.target !== field || !act || modified || event.isComposing) return
  event.preventDefault()
  event.stopImmediatePropagation()
  act()
}

function openList(target, words) {
  if (field !== target) close()
  field = target
  shown = words
  active = 0
  list ??= newList()
  list.replaceChildren(...words.map(option))
  place()
  describe()
}

function close() {
  if (!list) return
  list.remove()
  for (const name of ["aria-controls", "aria-activedescendant", "aria-autocomplete"]) field.removeAttribute(name)
  list = field = null
  shown = []
}

function take() {
  const open = openWord(field.value, field.selectionStart)
  const [target, caret, { write, placeholder, name, applied }] = [field, field.selectionStart, shown[active]]
  close()
  if (open) replaceText(target, open.start, caret, write)
  close()
  if (!applied && applyChosen(target, placeholder, name)) lookAgain()
}

function move(step) {
  active = (active + step + shown.length) % shown.length
  describe()
}

function newList() {
  const element = document.createElement("ul")
  element.id = LIST
  element.className = "personalize-completion"
  element.setAttribute("role", "listbox")
  element.setAttribute("aria-label", text("completion"))
  document.body.append(element)
  return element
}

function option({ write, name, method, applied }, index) {
  const element = document.createElement("li")
  element.id = `${LIST}-${index}`
  element.setAttribute("role", "option")
  const code = document.createElement("code")
  code.textContent = write
  const note = document.createElement("span")
  note.textContent = [applied ? text("applied_here") : "", method, name].filter(Boolean).join(" · ")
  element.append(thumbnail(name), code, note)
  element.addEventListener("pointerdown", (event) => {
    event.preventDefault() // the field keeps the focus
    active = index
    take()
  })
  return element
}

function thumbnail(name) {
  const concept = conceptNamed(name)
  const address = concept && pictureOf(concept, "thumbnail")
  if (!address) return document.createElement("i")
  return Object.assign(document.createElement("img"), { src: address, alt: "", width: 32, height: 32 })
}

function describe() {
  const options = [...list.children]
  options.forEach((element, n) => element.setAttribute("aria-selected", String(n === active)))
  options[active].scrollIntoView({ block: "nearest" })
  field.setAttribute("aria-autocomplete", "list")
  field.setAttribute("aria-controls", LIST)
  field.setAttribute("aria-activedescendant", options[active].id)
}

function place() {
  const { x, top, bottom } = caretPosition(field)
  const { width, height } = list.getBoundingClientRect()
  const below = bottom + height < window.innerHeight
  list.style.left = `${Math.max(0, Math.min(x, window.innerWidth - width))}px`
  list.style.top = `${below ? bottom : Math.max(0, top - height)}px`
}
