// Where the caret of a text area is on the screen: the text before it is laid out once more, unseen.

/** What decides where the letters of a field stand. */
export const STYLES = [
  ...["boxSizing", "fontFamily", "fontSize", "fontStyle", "fontWeight", "letterSpacing", "lineHeight"],
  ...["paddingTop", "paddingRight", "paddingBottom", "paddingLeft", "tabSize", "textIndent", "textTransform"],
  ...["borderTopWidth", "borderRightWidth", "borderBottomWidth", "borderLeftWidth", "wordSpacing"],
]

/**
 * Give an element the styles of another.
 * @param {HTMLElement} element
 * @param {HTMLElement} other
 * @param {string[]} names
 */
export function styleAlike(element, other, names) {
  const style = getComputedStyle(other)
  for (const name of names) element.style[name] = style[name]
}

/** {x, top, bottom} in pixels of the window; the field may be scaled by the canvas and scrolled. */
export function caretPosition(field) {
  const mirror = document.createElement("div")
  styleAlike(mirror, field, STYLES)
  Object.assign(mirror.style, { position: "fixed", visibility: "hidden", whiteSpace: "pre-wrap" })
  Object.assign(mirror.style, { overflowWrap: "break-word", borderStyle: "solid", width: `${field.offsetWidth}px` })
  mirror.textContent = field.value.slice(0, field.selectionStart)
  const caret = document.createElement("span")
  caret.textContent = "\u200b"
  mirror.append(caret)
  document.body.append(mirror)
  const box = field.getBoundingClientRect()
  const scale = box.width / field.offsetWidth || 1
  const x = box.left + caret.offsetLeft * scale
  const top = Math.max(box.top, Math.min(box.top + (caret.offsetTop - field.scrollTop) * scale, box.bottom))
  const bottom = Math.min(box.bottom, top + caret.offsetHeight * scale)
  mirror.remove()
  return { x, top, bottom }
}
