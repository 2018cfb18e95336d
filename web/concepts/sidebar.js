// The sidebar: a card for each saved concept, drawn as far as one has scrolled.

import { api } from "../../../scripts/api.js"
import { newGroup } from "./cards.js"
import { newButton, newChoice, newElement } from "./elements.js"
import { isFavourite } from "./favourites.js"
import { greyOut } from "./fitting.js"
import { listed, traits } from "./listing.js"
import { allConcepts, onShelfChange, refreshLists, refreshShelf } from "./shelf.js"
import { text } from "./texts.js"
import { showTrash } from "./trash.js"

const ID = "personalize-concepts"
const A_PART = 24 // cards drawn at once: more than a tall screen shows

/** @type {import("./listing.js").Wishes} kept while the page is open */
const wishes = { search: "", method: "", base: "", sort: "newest", favourites: false }

export function sidebarTab() {
  let forget = () => {}
  let panel = null
  return {
    id: ID,
    icon: "pi pi-id-card",
    title: "personalize.concepts.title",
    tooltip: "personalize.concepts.tooltip",
    type: "custom",
    /** Called again whenever a setting changes that was read here, such as the favourites. */
    render(element) {
      if (panel?.element.parentElement === element) return
      forget()
      const shown = (panel = newPanel())
      element.replaceChildren(shown.element)
      const stop = onShelfChange(shown.update)
      forget = () => {
        stop()
        shown.close()
      }
      refreshShelf()
    },
    destroy() {
      forget()
      panel = null
    },
  }
}

function newPanel() {
  const search = newElement("input", { type: "search", placeholder: text("search"), "aria-label": text("search") })
  const choices = newElement("div", { class: "personalize-choices" })
  const state = newElement("p", { role: "status", class: "personalize-state" })
  const cards = newElement("ul", { role: "list", class: "personalize-cards" })
  const end = newElement("li", { class: "personalize-end", "aria-hidden": "true" })
  const stars = newButton("pi-star", text("favourites"), () => wish({ favourites: !wishes.favourites }))
  const bin = newButton("pi-trash", text("trash"), () => openTrash(!inTrash))
  const refresh = newButton("pi-refresh", text("refresh"), refreshLists)
  const tools = newElement("div", { class: "personalize-actions" }, stars, bin, refresh)
  const heading = newElement("h2", {}, text("title"))
  const header = newElement("header", {}, heading, tools)
  const top = newElement("div", { class: "personalize-top" }, header, search, choices, state)
  const attributes = { class: "personalize-shelf", "aria-label": text("title") }
  const element = newElement("section", attributes, top, cards)
  const seen = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && drawMore())
  let groups = []
  let drawn = 0
  let inTrash = false
  let updates = 0

  search.value = wishes.search
  search.addEventListener("input", () => wish({ search: search.value }))
  seen.observe(end)
  api.addEventListener("graphChanged", fit)
  update()
  return { element, update, close }

  function close() {
    seen.disconnect()
    api.removeEventListener("graphChanged", fit)
  }

  function fit() {
    greyOut(cards)
  }

  function wish(change) {
    Object.assign(wishes, change)
    drawn = 0
    update()
    element.scrollIntoView({ block: "start" })
  }

  function openTrash(open) {
    inTrash = open
    drawn = 0
    update()
  }

  function update() {
    const mine = ++updates
    search.hidden = choices.hidden = inTrash
    heading.textContent = text(inTrash ? "trash" : "title")
    stars.setAttribute("aria-pressed", String(wishes.favourites))
    bin.setAttribute("aria-pressed", String(inTrash))
    if (inTrash) return showTrash(cards, state, () => mine === updates, bin)
    drawChoices(choices, wish)
    groups = listed(allConcepts(), wishes, isFavourite)
    const focused = focusIn(cards)
    const wanted = Math.max(drawn, A_PART)
    drawn = 0
    cards.replaceChildren(end)
    drawMore(wanted)
    focusAgain(cards, focused)
    if (!allConcepts().length) state.textContent = text("none_yet")
    else state.textContent = groups.length ? "" : text("none_found", { wanted: wishes.search })
  }

  /** The end is observed anew each time: it may still be in view. */
  function drawMore(count = A_PART) {
    if (inTrash) return
    end.before(...groups.slice(drawn, drawn + count).map(newGroup))
    drawn = Math.min(drawn + count, groups.length)
    fit()
    seen.unobserve(end)
    if (drawn < groups.length) seen.observe(end)
  }
}

/** @type {["method" | "base", "method_name" | "base_title", string][]} */
const TRAITS = [["method", "method_name", "any_method"], ["base", "base_title", "any_base"]]

/** By what the list is sorted, and which methods and base models it shows, where there are several. */
function drawChoices(element, wish) {
  const all = allConcepts()
  const sorts = /** @type {[string, string][]} */ ([["newest", text("newest")], ["name", text("by_name")]])
  const made = [newChoice(text("sort"), sorts, wishes.sort, (sort) => wish({ sort }))]
  for (const [trait, shown, any] of TRAITS) {
    const found = traits(all, trait, shown)
    if (found.length < 2 && !wishes[trait]) continue
    made.push(newChoice(text(any), [["", text(any)], ...found], wishes[trait], (value) => wish({ [trait]: value })))
  }
  const focused = [...element.children].indexOf(document.activeElement)
  element.replaceChildren(...made)
  element.children[focused]?.focus()
}

/** Which card and button has the focus, so that it is not lost when the list is drawn again. */
function focusIn(cards) {
  const active = /** @type {HTMLButtonElement | null} */ (document.activeElement)
  const item = /** @type {HTMLElement | null | undefined} */ (active?.closest?.(".personalize-card"))
  if (!active || !item || !cards.contains(item)) return null
  return { name: item.dataset.name, button: [...item.querySelectorAll("button")].indexOf(active) }
}

function focusAgain(cards, focused) {
  if (!focused) return
  const item = [...cards.children].find(({ dataset }) => dataset.name === focused.name)
  item?.querySelectorAll("button")[focused.button]?.focus()
}
