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
 */
export async function showTrash(list, state, isWanted) {
  const trash = await fetchTrash()
  if (!isWanted()) return
  list.replaceChildren(...trash.map(newRow))
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
