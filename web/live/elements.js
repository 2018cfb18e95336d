/**
 * An element with a class and children; a text child stays text.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} className
 * @param {string | Node | (string | Node)[]} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, className = "", children = []) {
  const made = document.createElement(name)
  if (className) made.className = className
  made.append(...[children].flat())
  return made
}

/**
 * @param {string | Node} content
 * @param {string} title
 * @param {(event: MouseEvent) => void} onClick
 */
export function button(content, title, onClick) {
  const made = element("button", "", content)
  made.type = "button"
  made.title = title
  made.addEventListener("click", onClick)
  return made
}

/**
 * @param {string} name
 * @param {Record<string, string>} attributes
 */
export function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}

/**
 * Set a text only when it changes, or a screen reader would read it again.
 * @param {Node} node
 * @param {string} wanted
 */
export function setText(node, wanted) {
  if (node.textContent !== wanted) node.textContent = wanted
}
