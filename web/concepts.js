// Saved concepts at hand: a sidebar, completion of placeholders in prompts, and what to write, on the nodes.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { watchTyping } from "./concepts/completion.js"
import { addReminder, showReminders } from "./concepts/reminder.js"
import { acceptDrops } from "./concepts/nodes.js"
import { watchPromptFields } from "./concepts/prompt_fields.js"
import { onShelfChange, refreshShelf } from "./concepts/shelf.js"
import { sidebarTab } from "./concepts/sidebar.js"
import { loadStyle } from "./node_elements.js"
import { loadTexts } from "./texts.js"

const CHANGED = "personalize.concepts_changed"

async function setup() {
  loadStyle("./concepts/concepts.css", import.meta.url)
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

app.registerExtension({
  name: "personalize.concepts",
  setup,
  nodeCreated: addReminder,
  afterConfigureGraph: showReminders,
})
