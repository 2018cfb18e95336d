// A concept is chosen: its word goes into a prompt, and where that prompt does not know it, it is applied.

import { noteChoice } from "./checks.js"
import { applyTo } from "./nodes.js"
import { nodeOf } from "./prompt_fields.js"
import { isEncoder } from "./workflow.js"

/**
 * Apply a chosen concept to the prompt of a field, if the workflow has models to apply it to.
 * @param {HTMLTextAreaElement} field
 * @param {string} placeholder
 * @param {string} name of the saved concept, "" for one that is not saved
 */
export function applyChosen(field, placeholder, name) {
  noteChoice(name)
  const node = nodeOf(field)
  return Boolean(node && isEncoder(node) && applyTo(node, placeholder, name))
}
