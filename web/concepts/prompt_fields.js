// Prompt fields: which one was used last, on which node, and how text is put into one so that undo works and everybody
// notices.

import { app } from "../../../scripts/app.js"
import { allNodes } from "../graph.js"

let last = null

export function watchPromptFields() {
  document.addEventListener("focusin", ({ target }) => {
    if (isPromptField(target)) last = target
  })
}

/**
 * Is it a text area of several lines that can be written in, on a node?
 * @param {EventTarget | null} element
 * @returns {element is HTMLTextAreaElement}
 */
export function isPromptField(element) {
  return (
    element instanceof HTMLTextAreaElement &&
    !element.readOnly &&
    !element.disabled &&
    !element.closest("[role=dialog]")
  )
}

/** The field that has the focus or had it last, null when it is gone. */
export const lastPromptField = () => (last?.isConnected ? last : null)

/**
 * The node that a field is on: in Nodes 2.0 the element says it, on the classic canvas the widget.
 * @param {HTMLTextAreaElement} field
 * @returns {any}
 */
export function nodeOf(field) {
  const id = /** @type {HTMLElement | null} */ (field.closest("[data-node-id]"))?.dataset.nodeId
  if (id !== undefined) return app.canvas.graph?.getNodeById(id) ?? null
  for (const node of allNodes()) if (node.widgets?.some((widget) => widget.element === field)) return node
  return null
}

/**
 * Put a word where the caret is, with spaces around it where there are none.
 * @param {HTMLTextAreaElement} field
 * @param {string} word
 */
export function insertWord(field, word) {
  const { value, selectionStart: start, selectionEnd: end } = field
  const before = start > 0 && !/[\s(]$/.test(value.slice(0, start)) ? " " : ""
  const after = end < value.length && !/^[\s,.;:)]/.test(value.slice(end)) ? " " : ""
  replaceText(field, start, end, before + word + after)
}

/**
 * Replace characters of a field; the caret stands behind the new text.
 * @param {HTMLTextAreaElement} field
 * @param {number} start
 * @param {number} end
 * @param {string} text
 */
export function replaceText(field, start, end, text) {
  field.focus({ preventScroll: true })
  field.setSelectionRange(start, end)
  // execCommand is the only way that keeps the field's undo; it does nothing when a field is hidden.
  if (document.activeElement === field && document.execCommand("insertText", false, text)) return
  field.setRangeText(text, start, end, "end")
  field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: text }))
}
