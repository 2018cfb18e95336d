// What the server warns of when a workflow is queued, and no field has a mark for.

import { app } from "../../../scripts/app.js"
import { nodeAt } from "../graph.js"
import { text } from "./texts.js"

const READING = 12000 // ms that a warning stays

/**
 * A node draws with a MODEL that has not come through the Apply Concept of its prompts.
 * @param {{node: string, words: string[]}} news
 */
export function warnPastModel({ node, words }) {
  const detail = text("past_model", { words: words.join(", "), node: nodeAt(node)?.title ?? node })
  app.extensionManager.toast.add({ severity: "warn", summary: text("title"), detail, life: READING })
}
