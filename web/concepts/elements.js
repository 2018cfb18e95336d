/**
 * An element with attributes and children; a text child stays text.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(string | Node)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function newElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value))
  element.append(...children)
  return element
}

/**
 * A button that shows an icon; its label is its name and its tip.
 * @param {string} icon
 * @param {string} label
 * @param {() => void} onClick
 */
export function newButton(icon, label, onClick) {
  const button = newElement("button", { type: "button", class: "personalize-icon", title: label, "aria-label": label })
  button.append(newElement("i", { class: `pi ${icon}`, "aria-hidden": "true" }))
  button.addEventListener("click", onClick)
  return button
}

/**
 * Let Enter act when it is released, as Space does: the frontend's prompt, which is open by then, takes the release of
 * Enter for its answer.
 * @param {HTMLButtonElement} button
 */
export function onRelease(button) {
  const on = (event, act) => button.addEventListener(event, (key) => key.key === "Enter" && act(key))
  on("keydown", (key) => key.preventDefault())
  on("keyup", () => button.click())
  return button
}

/**
 * A choice between texts by value.
 * @param {string} label
 * @param {[string, string][]} options value and text
 * @param {string} chosen
 * @param {(value: string) => void} onChoice
 */
export function newChoice(label, options, chosen, onChoice) {
  const made = options.map(([value, shown]) => newElement("option", { value }, shown))
  const select = newElement("select", { "aria-label": label, title: label }, ...made)
  select.value = chosen
  select.addEventListener("change", () => onChoice(select.value))
  return select
}
