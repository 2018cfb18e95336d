// Saved concepts at hand: a sidebar, completion of placeholders in prompts, and what to write, on the nodes.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { watchTyping } from "./concepts/completion.js"
import { addReminder, showReminders } from "./concepts/reminder.js"
import { acceptDrops } from "./concepts/nodes.js"
import { watchPromptFields } from "./concepts/prompt_fields.js"
import { onShelfChange, refreshShelf } from "./concepts/shelf.js"
import { sidebarTab } from "./concepts/sidebar.js"
import { loadTexts } from "./texts.js"

const CHANGED = "personalize.concepts_changed"

async function setup() {
  addStyles()
  watchPromptFields()
  watchTyping()
  acceptDrops()
  onShelfChange(showReminders)
  api.addEventListener("graphChanged", showReminders)
  api.addEventListener(CHANGED, onConceptsChanged)
  app.extensionManager.registerSidebarTab(sidebarTab())
  await loadTexts()
  await refreshShelf()
}

async function onConceptsChanged() {
  await refreshShelf()
  await app.refreshComboInNodes()
}

function addStyles() {
  const link = document.createElement("link")
  link.rel = "stylesheet"
  link.href = new URL("./concepts/concepts.css", import.meta.url).href
  document.head.append(link)
}

app.registerExtension({
  name: "personalize.concepts",
  setup,
  nodeCreated: addReminder,
  afterConfigureGraph: showReminders,
})
