// Prompt fields: which one was used last, and how text is put into one so that undo works and everybody notices.

let last = null

export function watchPromptFields() {
  document.addEventListener("focusin", ({ target }) => {
    if (isPromptField(target)) last = target
  })
}

/** Is it a text area of several lines that can be written in, on a node? */
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

/** Put a word where the caret is, with spaces around it where there are none. */
export function insertWord(field, word) {
  const { value, selectionStart: start, selectionEnd: end } = field
  const before = start > 0 && !/[\s(]$/.test(value.slice(0, start)) ? " " : ""
  const after = end < value.length && !/^[\s,.;:)]/.test(value.slice(end)) ? " " : ""
  replaceText(field, start, end, before + word + after)
}

/** Replace characters of a field; the caret stands behind the new text. */
export function replaceText(field, start, end, text) {
  field.focus({ preventScroll: true })
  field.setSelectionRange(start, end)
  // execCommand is the only way that keeps the field's undo; it does nothing when a field is hidden.
  if (document.activeElement === field && document.execCommand("insertText", false, text)) return
  field.setRangeText(text, start, end, "end")
  field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: text }))
}
