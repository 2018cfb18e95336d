// Saved concepts at hand: a sidebar, completion of placeholders in prompts, and what to write, on the nodes.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { keepTold } from "./concepts/checks.js"
import { watchTyping } from "./concepts/completion.js"
import { FAVOURITES } from "./concepts/favourites.js"
import { lookAgain, watchMarks } from "./concepts/marks.js"
import { addReminder, showReminders } from "./concepts/reminder.js"
import { acceptDrops } from "./concepts/nodes.js"
import { watchPromptFields } from "./concepts/prompt_fields.js"
import { onShelfChange, refreshLists, refreshShelf } from "./concepts/shelf.js"
import { sidebarTab } from "./concepts/sidebar.js"
import { warnPastModel } from "./concepts/warnings.js"
import { nodeAt } from "./graph.js"
import { loadStyle } from "./node_elements.js"
import { loadTexts } from "./texts.js"

const CHANGED = "personalize.concepts_changed"
const TOLD = ["personalize.prompt", "personalize.unapplied"]
const PAST_MODEL = "personalize.past_model"

async function setup() {
  loadStyle("./concepts/concepts.css", import.meta.url)
  watchPromptFields()
  watchTyping()
  watchMarks()
  acceptDrops()
  onShelfChange(showAll)
  api.addEventListener("graphChanged", showAll)
  for (const event of TOLD) api.addEventListener(event, ({ detail }) => onTold(detail))
  api.addEventListener(PAST_MODEL, ({ detail }) => warnPastModel(detail))
  api.addEventListener(CHANGED, refreshLists)
  app.extensionManager.registerSidebarTab(sidebarTab())
  await loadTexts()
  await refreshShelf()
}

function showAll() {
  showReminders()
  lookAgain()
}

/** The server says what became of a prompt's words. */
function onTold(news) {
  const node = nodeAt(news.node)
  if (node) keepTold(node, news)
  lookAgain()
}

app.registerExtension({
  name: "personalize.concepts",
  settings: [FAVOURITES],
  setup,
  nodeCreated: addReminder,
  refreshComboInNodes: refreshShelf,
  afterConfigureGraph: showAll,
})
