// Marks on prompt fields: a wavy line under words that stay plain text, and under the field what one can do.

import { nodeOf, isPromptField, replaceText } from "./prompt_fields.js"
import { applyChosen } from "./choosing.js"
import { STYLES, styleAlike } from "./caret.js"
import { doubtsOf } from "./checks.js"
import { text } from "./texts.js"
import { isEncoder } from "./workflow.js"

const MOST = 2 // doubts told at once
const decorations = new WeakMap()
let frame = 0
let count = 0

/** Look at what is typed, and again whenever `lookAgain` is called. */
export function watchMarks() {
  document.addEventListener("input", ({ target }) => isPromptField(target) && look(target), true)
  document.addEventListener("focusin", ({ target }) => isPromptField(target) && look(target), true)
}

/** Look at all fields that are shown, soon: the workflow, the shelf or the view has changed. */
export function lookAgain() {
  frame ||= requestAnimationFrame(() => {
    frame = 0
    for (const field of document.querySelectorAll("textarea")) if (isPromptField(field)) look(field)
  })
}

/** @param {HTMLTextAreaElement} field */
function look(field) {
  const node = field.value.includes("<") ? nodeOf(field) : null
  const doubts = node && isEncoder(node) ? doubtsOf(node, field.value) : []
  if (doubts.length) decorationOf(field).draw(doubts)
  else decorations.get(field)?.remove()
}

function decorationOf(field) {
  if (!decorations.get(field)?.isThere()) decorations.set(field, newDecoration(field))
  return decorations.get(field)
}

/** @param {HTMLTextAreaElement} field */
function newDecoration(field) {
  const lines = document.createElement("div")
  const hints = document.createElement("div")
  lines.className = "personalize-marks"
  lines.setAttribute("aria-hidden", "true")
  hints.className = "personalize-hints"
  hints.id = `personalize-hints-${++count}`
  hints.setAttribute("role", "status")
  field.after(lines, hints)
  field.setAttribute("aria-describedby", hints.id)
  const follow = () => (lines.scrollTop = field.scrollTop)
  const resized = new ResizeObserver(place)
  field.addEventListener("scroll", follow)
  resized.observe(field)

  function draw(doubts) {
    lines.replaceChildren(...marked(field.value, doubts))
    hints.replaceChildren(...doubts.slice(0, MOST).map((doubt) => hint(field, doubt)))
    place()
  }

  function place() {
    styleAlike(lines, field, STYLES)
    const { offsetLeft: left, offsetTop: top, clientWidth, clientHeight, offsetWidth, offsetHeight } = field
    const borders = [offsetWidth - field.clientWidth, offsetHeight - field.clientHeight]
    const isBar = borders[0] > 2 * parseFloat(getComputedStyle(field).borderLeftWidth)
    Object.assign(lines.style, { left: `${left}px`, top: `${top}px`, height: `${offsetHeight}px` })
    lines.style.width = `${isBar ? clientWidth : offsetWidth}px`
    Object.assign(hints.style, { left: `${left}px`, width: `${clientWidth}px` })
    hints.style.top = `${top + clientHeight - hints.offsetHeight}px`
    follow()
  }

  function remove() {
    field.removeEventListener("scroll", follow)
    field.removeAttribute("aria-describedby")
    resized.disconnect()
    lines.remove()
    hints.remove()
  }

  return { draw, remove, isThere: () => lines.isConnected }
}

/** The text again, unseen, with its doubtful words marked. */
function marked(value, doubts) {
  const pieces = []
  let end = 0
  for (const { start, end: stop, status } of doubts) {
    const mark = document.createElement("mark")
    mark.className = status
    mark.textContent = value.slice(start, stop)
    pieces.push(value.slice(end, start), mark)
    end = stop
  }
  return [...pieces, `${value.slice(end)}\u200b`]
}

function hint(field, doubt) {
  const line = document.createElement("p")
  const { word, status, nearest } = doubt
  const isElsewhere = status === "elsewhere"
  line.append(text(isElsewhere ? "not_applied" : "unknown_word", { word }), " ")
  if (nearest) line.append(button(text("write_nearest", { word: nearest }), () => correct(field, doubt)), " ")
  if (isElsewhere) line.append(button(text("apply_here"), () => apply(field, doubt)))
  return line
}

function correct(field, { start, end, nearest, weight }) {
  replaceText(field, start, end, weight ? `${nearest.slice(0, -1)}:${weight}>` : nearest)
}

function apply(field, { placeholder, name }) {
  applyChosen(field, placeholder, name)
  field.focus({ preventScroll: true })
  look(field)
}

function button(label, onClick) {
  const made = document.createElement("button")
  made.type = "button"
  made.textContent = label
  made.addEventListener("click", onClick)
  return made
}
