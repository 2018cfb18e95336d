// The sidebar: a card for each saved concept. Everything that comes from a file is shown as text.

import { app } from "../../../scripts/app.js"
import { applyChosen } from "./choosing.js"
import { lookAgain } from "./marks.js"
import { DRAGGED, followRename, insertConcept } from "./nodes.js"
import { insertWord, lastPromptField } from "./prompt_fields.js"
import { allConcepts, deleteConcept, onShelfChange, pictureOf, refreshShelf, renameConcept } from "./shelf.js"
import { text } from "./texts.js"

const ID = "personalize-concepts"

export function sidebarTab() {
  let forget = () => {}
  return {
    id: ID,
    icon: "pi pi-id-card",
    title: "personalize.concepts.title",
    tooltip: "personalize.concepts.tooltip",
    type: "custom",
    render(element) {
      forget()
      const panel = newPanel()
      element.replaceChildren(panel.element)
      forget = onShelfChange(panel.update)
      refreshShelf()
    },
    destroy: () => forget(),
  }
}

function newPanel() {
  const search = newElement("input", { type: "search", placeholder: text("search"), "aria-label": text("search") })
  const state = newElement("p", { role: "status", class: "personalize-state" })
  const cards = newElement("ul", { role: "list", class: "personalize-cards" })
  const refresh = newButton("pi-refresh", text("refresh"), refreshShelf)
  const heading = newElement("h2", {}, text("title"))
  const header = newElement("header", {}, heading, refresh)
  const element = newElement("section", { class: "personalize-shelf", "aria-label": text("title") }, header, search, state, cards)
  const update = () => showCards(cards, state, search.value)
  search.addEventListener("input", update)
  update()
  return { element, update }
}

function showCards(cards, state, wanted) {
  const all = allConcepts()
  const fitting = all.filter((concept) => fits(concept, wanted))
  const focused = focusIn(cards)
  cards.replaceChildren(...fitting.map(newCard))
  focusAgain(cards, focused)
  if (!all.length) state.textContent = text("none_yet")
  else state.textContent = fitting.length ? "" : text("none_found", { wanted })
}

function fits({ name, card }, wanted) {
  const told = [name, card?.placeholder, card?.class_word, card?.method_name, card?.base_title]
  const all = told.join(" ").toLowerCase()
  return wanted.toLowerCase().split(/\s+/).every((word) => all.includes(word))
}

function newCard(concept) {
  const { name, card, problem } = concept
  const item = newElement("li", { class: "personalize-card", "data-name": name })
  const actions = newElement("div", { class: "personalize-actions" })
  if (card) {
    item.draggable = true
    item.addEventListener("dragstart", (event) => startDrag(event, name))
    actions.append(newButton("pi-plus", text("add_nodes", { name }), () => insertConcept(name)))
  }
  actions.append(...sheetButton(concept, item))
  actions.append(newButton("pi-pencil", text("rename", { name }), () => askForName(concept)))
  actions.append(newButton("pi-trash", text("delete", { name }), () => askToDelete(concept)))
  const main = card ? insertButton(concept) : newElement("div", { class: "personalize-main" }, newElement("p", { class: "personalize-problem" }, problem))
  if (!card) main.prepend(newElement("strong", {}, name))
  item.append(main, actions)
  return item
}

function insertButton(concept) {
  const { name, card } = concept
  const tip = text("insert", { word: card.write })
  const lines = newElement("span", { class: "personalize-lines" })
  const about = [card.method_name, card.base_title].join(" · ")
  lines.append(newElement("strong", {}, stem(name)), newElement("code", {}, card.write), newElement("span", {}, about))
  if (card.class_word) lines.append(newElement("span", {}, text("class_word", { word: card.class_word })))
  const button = newElement("button", { type: "button", class: "personalize-main", title: tip, "aria-label": `${stem(name)}. ${tip}` }, thumbnail(concept), lines)
  button.addEventListener("click", () => insert(concept))
  return button
}

function thumbnail(concept) {
  const address = pictureOf(concept, "thumbnail")
  if (address) return newElement("img", { src: address, alt: "", width: 64, height: 64, loading: "lazy", draggable: "false" })
  return newElement("span", { class: "personalize-no-picture pi pi-image", "aria-hidden": "true" })
}

function sheetButton(concept, item) {
  const address = pictureOf(concept, "sheet")
  if (!address) return []
  const label = text("pictures", { name: concept.name })
  const button = newButton("pi-images", label, () => {
    const shown = item.querySelector(".personalize-sheet")
    if (shown) shown.remove()
    else item.append(newElement("img", { class: "personalize-sheet", src: address, alt: label, draggable: "false" }))
    button.setAttribute("aria-expanded", String(!shown))
  })
  button.setAttribute("aria-expanded", "false")
  return [button]
}

function startDrag(event, name) {
  event.dataTransfer.setData(DRAGGED, name)
  event.dataTransfer.effectAllowed = "copy"
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

async function askForName({ name }) {
  const wanted = await app.extensionManager.dialog.prompt({
    title: text("rename_title"),
    message: text("rename_message"),
    defaultValue: stem(name),
  })
  if (!wanted || wanted === stem(name)) return
  await attempt(async () => followRename(name, await renameConcept(name, wanted)))
}

async function askToDelete({ name }) {
  const sure = await app.extensionManager.dialog.confirm({
    title: text("delete_title"),
    message: text("delete_message", { name }),
    type: "delete",
  })
  if (!sure) return
  await attempt(async () => tell("success", text("deleted", { place: await deleteConcept(name) })))
}

/** Do what changes the shelf; the list is read again in any case, since others may have changed it. */
async function attempt(act) {
  try {
    await act()
  } catch (error) {
    tell("error", error.message)
  }
  await refreshShelf()
}

function tell(severity, detail) {
  const life = severity === "error" ? 10000 : 4000
  app.extensionManager.toast.add({ severity, summary: text("title"), detail, life })
}

const stem = (name) => name.replace(/\.(safetensors|sft|pt|pth|bin|ckpt)$/i, "")

function newButton(icon, label, onClick) {
  const button = newElement("button", { type: "button", class: "personalize-icon", title: label, "aria-label": label })
  button.append(newElement("i", { class: `pi ${icon}`, "aria-hidden": "true" }))
  button.addEventListener("click", onClick)
  return button
}

function newElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** Which card and button has the focus, so that it is not lost when the list is drawn again. */
function focusIn(cards) {
  const item = document.activeElement?.closest?.(".personalize-card")
  if (!item || !cards.contains(item)) return null
  return { name: item.dataset.name, button: [...item.querySelectorAll("button")].indexOf(document.activeElement) }
}

function focusAgain(cards, focused) {
  if (!focused) return
  const item = [...cards.children].find(({ dataset }) => dataset.name === focused.name)
  item?.querySelectorAll("button")[focused.button]?.focus()
}
