// A line on Load Concept and Apply Concept: method, base model, and what to write in a prompt.

import { app } from "../../../scripts/app.js"
import { allNodes, sourceOf } from "../graph.js"
import { addElement, afterwards, widgetOf } from "../node_elements.js"
import { conceptNamed } from "./shelf.js"
import { text } from "./texts.js"
import { keepHeight, showUsed } from "./used_inputs.js"
import { APPLY, LOAD, cardOf } from "./workflow.js"

const NAME = "what_to_write"
const HEIGHT = 62

/** Hook for new nodes. */
export function addReminder(node) {
  if (node.comfyClass !== APPLY && node.comfyClass !== LOAD) return
  const element = document.createElement("div")
  element.className = "personalize-reminder"
  const size = { getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT }
  addElement(node, NAME, "personalize_reminder", element, size)
  node.setSize([node.size[0], node.computeSize()[1]]) // it was made without the line
  node.personalizeReminder = element
  afterwards(node, "onConfigure", (saved) => keepHeight(node, saved))
  afterwards(node, "onExecuted", (output) => keepCard(node, output))
  afterwards(node, "onConnectionsChange", () => {
    const byUser = !app.configuringGraph
    queueMicrotask(() => show(node, byUser)) // the link is set after this hook
  })
  show(node)
}

/** Bring the lines of all nodes up to date. */
export function showReminders() {
  for (const node of allNodes()) if (node.personalizeReminder) show(node)
}

function keepCard(node, output) {
  const card = output?.concept_card?.[0]
  if (!card) return
  node.personalizeCard = card
  showReminders()
}

function show(node, byUser = false) {
  const card = cardOf(node)
  if (node.type === APPLY) showUsed(node, byUser)
  const lines = card ? [methodLine(card), writeLine(card)] : [line(whyUnknown(node), "why")]
  const shown = lines.map((one) => one.textContent).join("\n")
  const element = node.personalizeReminder
  if (element.title === shown && element.childElementCount) return
  element.title = shown
  element.replaceChildren(...lines)
}

/** Why nobody can say what to write, in a sentence. */
function whyUnknown(node) {
  const source = node.type === APPLY ? sourceOf(node, "concept")?.node : node
  if (!source) return text("reminder_unknown")
  if (source.type !== LOAD) return text("told_by_run")
  const widget = widgetOf(source, "concept_name")
  const listed = widget?.options?.values ?? []
  if (!listed.length) return text("none_to_load")
  if (widget.value && !listed.includes(widget.value)) return text("missing_file", { name: widget.value })
  return conceptNamed(widget.value)?.problem || text("told_by_run")
}

function methodLine(card) {
  return line([card.method_name, card.base_title].filter(Boolean).join(" · "))
}

function writeLine(card) {
  const [before, after] = text("reminder_write").split("{words}")
  const words = document.createElement("code")
  words.textContent = [card.write, ...card.attributes].join("  ")
  const written = line(before)
  written.append(words, after ?? "")
  return written
}

function line(content, className = "") {
  const paragraph = document.createElement("p")
  paragraph.className = className
  paragraph.textContent = content
  return paragraph
}
