// A card of the sidebar. Everything that comes from a file is shown as text.

import { app } from "../../../scripts/app.js"
import { applyChosen } from "./choosing.js"
import { newButton, newElement, onRelease } from "./elements.js"
import { followFavourite, isFavourite, toggleFavourite } from "./favourites.js"
import { stem } from "./listing.js"
import { lookAgain } from "./marks.js"
import { DRAGGED, followRename, insertConcept } from "./nodes.js"
import { insertWord, lastPromptField } from "./prompt_fields.js"
import { deleteConcept, pictureOf, refreshShelf, renameConcept, sharedAddress } from "./shelf.js"
import { text } from "./texts.js"

/**
 * The card of the newest version, with the others behind a button.
 * @param {import("./listing.js").Saved[]} versions
 */
export function newGroup([newest, ...older]) {
  const item = newCard(newest)
  if (!older.length) return item
  const list = newElement("ul", { class: "personalize-versions", role: "list" })
  const count = newElement("button", { type: "button", class: "personalize-more", "aria-expanded": "false" })
  count.textContent = text("older_versions", { count: older.length })
  count.addEventListener("click", () => {
    const open = count.getAttribute("aria-expanded") !== "true"
    count.setAttribute("aria-expanded", String(open))
    list.replaceChildren(...(open ? older.map(newCard) : []))
  })
  item.append(count, list)
  return item
}

/** @param {import("./listing.js").Saved} concept */
function newCard(concept) {
  const { name, card, problem } = concept
  const item = newElement("li", { class: "personalize-card", "data-name": name, "data-base": card?.base ?? "" })
  const actions = newElement("div", { class: "personalize-actions" })
  if (card) {
    item.draggable = true
    item.addEventListener("dragstart", (event) => startDrag(event, name))
    actions.append(newButton("pi-plus", text("add_nodes", { name }), () => insertConcept(name)))
  }
  actions.append(...sheetButton(concept, item))
  if (card) actions.append(starButton(name), newButton("pi-share-alt", text("share", { name }), () => share(name)))
  actions.append(onRelease(newButton("pi-pencil", text("rename", { name }), () => askForName(concept, item))))
  actions.append(newButton("pi-trash", text("delete", { name }), () => askToDelete(concept, item)))
  const main = card ? insertButton(concept) : problemOf(name, problem)
  item.append(main, actions)
  if (concept.hides) item.append(newElement("p", { class: "personalize-problem personalize-hides" }, text("hides", { place: concept.hides })))
  return item
}

function problemOf(name, problem) {
  const told = newElement("p", { class: "personalize-problem" }, problem)
  return newElement("div", { class: "personalize-main" }, newElement("strong", {}, name), told)
}

function insertButton(concept) {
  const { name, card } = concept
  const tip = text("insert", { word: card.write })
  const lines = newElement("span", { class: "personalize-lines" })
  lines.append(newElement("strong", {}, stem(name)), newElement("code", {}, card.write))
  lines.append(newElement("span", {}, text("needs_base", { method: card.method_name, base: card.base_title })))
  lines.append(newElement("em", { class: "personalize-unfit-note" }, text("unfit")))
  const more = [card.class_word && text("class_word", { word: card.class_word }), stepsOf(card)].filter(Boolean)
  if (more.length) lines.append(newElement("span", {}, more.join(" · ")))
  const attributes = { type: "button", class: "personalize-main", title: tip, "aria-label": `${stem(name)}. ${tip}` }
  const button = newElement("button", attributes, thumbnail(concept), lines)
  button.addEventListener("click", () => insert(concept))
  return button
}

/** How much was learned, and whether that was stopped. */
function stepsOf({ steps, planned }) {
  if (!steps) return ""
  return text(planned > steps ? "steps_stopped" : "steps_learned", { steps })
}

function thumbnail(concept) {
  const address = pictureOf(concept, "thumbnail")
  if (!address) return newElement("span", { class: "personalize-no-picture pi pi-image", "aria-hidden": "true" })
  return newElement("img", { src: address, alt: "", width: 64, height: 64, loading: "lazy", draggable: "false" })
}

function sheetButton(concept, item) {
  const address = pictureOf(concept, "sheet")
  if (!address) return []
  const label = text("pictures", { name: concept.name })
  const button = newButton("pi-images", label, () => {
    const shown = item.querySelector(".personalize-sheet")
    if (shown) shown.remove()
    else button.parentElement?.after(newElement("img", { class: "personalize-sheet", src: address, alt: label, draggable: "false" }))
    button.setAttribute("aria-expanded", String(!shown))
  })
  button.setAttribute("aria-expanded", "false")
  return [button]
}

function starButton(name) {
  const label = text("favourite", { name })
  const button = newButton("pi-star", label, async () => {
    await toggleFavourite(name)
    draw()
  })
  function draw() {
    /** @type {Element} */ (button.firstElementChild).className = `pi ${isFavourite(name) ? "pi-star-fill" : "pi-star"}`
    button.setAttribute("aria-pressed", String(isFavourite(name)))
  }
  draw()
  return button
}

function startDrag(event, name) {
  event.stopPropagation()
  event.dataTransfer.setData(DRAGGED, name)
  event.dataTransfer.effectAllowed = "copy"
}

function share(name) {
  const link = newElement("a", { href: sharedAddress(name), download: `${stem(name)}.zip` })
  document.body.append(link)
  link.click()
  link.remove()
}

async function insert({ name, card: { write: word, placeholder } }) {
  const field = lastPromptField()
  if (field) {
    insertWord(field, word)
    if (applyChosen(field, placeholder, name)) lookAgain()
    return
  }
  const copied = await navigator.clipboard?.writeText(word).then(() => true, () => false)
  tell("info", text(copied ? "copied" : "no_prompt_field", { word }))
}

async function askForName({ name }, item) {
  const wanted = await app.extensionManager.dialog.prompt({
    title: text("rename_title"),
    message: text("rename_message"),
    defaultValue: stem(name),
  })
  let now = name
  if (wanted && wanted !== stem(name)) await attempt(async () => {
    now = await renameConcept(name, wanted)
    followRename(name, now)
    await followFavourite(name, now)
  })
  focusCard(item, now, ".pi-pencil")
}

async function askToDelete({ name }, item) {
  const sure = await app.extensionManager.dialog.confirm({
    title: text("delete_title"),
    message: text("delete_message", { name }),
    type: "delete",
  })
  if (!sure) return
  const { parentElement: list, nextElementSibling: next, previousElementSibling: previous } = item
  await attempt(async () => tell("success", text("deleted", { place: await deleteConcept(name) })))
  const near = [next, previous, list?.closest(".personalize-card")].find((one) => one?.dataset.name)
  focusCard(list, near?.dataset.name, ".pi-trash")
}

/** The frontend's dialogs leave the focus nowhere; keys go on at a button of the card of that name, or at the search. */
function focusCard(inside, name, icon) {
  if (document.activeElement !== document.body) return
  const shelf = inside.closest(".personalize-shelf") ?? document.querySelector(".personalize-shelf")
  const card = [...(shelf?.querySelectorAll(".personalize-card") ?? [])].find(({ dataset }) => dataset.name === name)
  const button = card?.querySelector(`:scope > .personalize-actions ${icon}`)?.parentElement
  ;(button ?? shelf?.querySelector("input"))?.focus()
}

/**
 * Do what changes the shelf; the list is read again in any case, since others may have changed it.
 * @param {() => Promise<unknown>} act
 */
export async function attempt(act) {
  try {
    await act()
  } catch (error) {
    tell("error", /** @type {Error} */ (error).message)
  }
  await refreshShelf()
}

function tell(severity, detail) {
  const life = severity === "error" ? 10000 : 4000
  app.extensionManager.toast.add({ severity, summary: text("title"), detail, life })
}
