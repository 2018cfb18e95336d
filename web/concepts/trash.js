// What was deleted, with a button that puts it back.

import { attempt } from "./cards.js"
import { newButton, newElement } from "./elements.js"
import { fetchTrash, restoreConcept } from "./shelf.js"
import { text } from "./texts.js"

/**
 * Fill a list with what is in the trash, unless it shows something else by the time that the server answers.
 * @param {HTMLElement} list
 * @param {HTMLElement} state
 * @param {() => boolean} isWanted
 * @param {HTMLElement} way where the focus goes when the row that has it was the last one
 */
export async function showTrash(list, state, isWanted, way) {
  const trash = await fetchTrash()
  if (!isWanted()) return
  const focused = [...list.children].findIndex((row) => row.contains(document.activeElement))
  list.replaceChildren(...trash.map(newRow))
  if (focused >= 0) (list.children[Math.min(focused, trash.length - 1)]?.querySelector("button") ?? way).focus()
  state.textContent = trash.length ? "" : text("trash_empty")
}

function newRow({ name, changed }) {
  const when = text("deleted_at", { time: new Date(changed).toLocaleString() })
  const lines = newElement("span", { class: "personalize-lines" }, newElement("strong", {}, name), newElement("span", {}, when))
  const restore = newButton("pi-undo", text("restore", { name }), () => attempt(() => restoreConcept(name)))
  const main = newElement("div", { class: "personalize-main" }, lines)
  const actions = newElement("div", { class: "personalize-actions" }, restore)
  return newElement("li", { class: "personalize-card", "data-name": name }, main, actions)
}
