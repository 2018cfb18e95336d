// Apply Concept shows the inputs that do something for its concept's method, and no others.

import { widgetOf } from "../node_elements.js"
import { sometimesUsed, usedBy } from "./shelf.js"
import { cardOf } from "./workflow.js"

/** Of nodes that were opened and not drawn yet: the frontend has made them as high as all inputs are. */
const savedHeights = new WeakMap()

/**
 * Hook for a node that a saved workflow describes.
 * @param {any} node
 * @param {{size?: ArrayLike<number>}} saved
 */
export const keepHeight = (node, { size }) => void (size && savedHeights.set(node, size[1]))

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
  const least = node.computeSize()[1]
  if (resize) node.setSize([node.size[0], least])
  else if (savedHeights.has(node)) node.setSize([node.size[0], Math.max(least, savedHeights.get(node))])
  savedHeights.delete(node)
  node.setDirtyCanvas?.(true, true)
}
