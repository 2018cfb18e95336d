// Apply Concept shows the inputs that do something for its concept's method, and no others.

import { widgetOf } from "../node_elements.js"
import { sometimesUsed, usedBy } from "./shelf.js"
import { cardOf } from "./workflow.js"

/**
 * Hide the inputs of an Apply Concept that its concept does not use; those with a connection stay.
 * @param {any} node
 * @param {boolean} [resize] whether the node takes the height that is left: after what a user did, not when a saved
 *   workflow is opened, whose sizes are part of its undo
 */
export function showUsed(node, resize = false) {
  const card = cardOf(node)
  const used = card ? usedBy(card.method) : [...sometimesUsed()]
  let changed = false
  for (const name of sometimesUsed()) {
    const widget = widgetOf(node, name)
    const isLinked = node.inputs?.some((input) => input.widget?.name === name && input.link != null)
    const hidden = !used.includes(name) && !isLinked
    if (!widget || Boolean(widget.hidden) === hidden) continue
    widget.hidden = widget.options.hidden = hidden // one for each renderer
    changed = true
  }
  if (!changed) return
  node.widgets.push(node.widgets.pop()) // Nodes 2.0 looks at widgets anew when their list changes
  if (resize) node.setSize([node.size[0], node.computeSize()[1]])
  node.setDirtyCanvas?.(true, true)
}
