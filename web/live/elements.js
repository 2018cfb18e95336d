/** An element with a class and children; a text child stays text. */
export function element(name, className = "", children = []) {
  const made = document.createElement(name)
  if (className) made.className = className
  made.append(...[children].flat())
  return made
}

export function button(text, title, onClick) {
  const made = element("button", "", text)
  made.type = "button"
  made.title = title
  made.addEventListener("click", onClick)
  return made
}

export function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}
