// The classic canvas shows a node's advanced inputs always; here they are folded, as Nodes 2.0 does.

import { app } from "../../../scripts/app.js"
import { afterwards } from "../node_elements.js"
import { button } from "./elements.js"
import { text } from "./texts.js"

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets"

/**
 * Fold the advanced inputs of a node; the button shows them. In Nodes 2.0 the style sheet hides it,
 * since the host has one of its own for the same switch.
 * @param {any} node
 */
export function makeFolding(node) {
  for (const widget of node.widgets ?? []) if (widget.options?.advanced) fold(node, widget)
  leaveOut(node)
  const more = button(text("more"), text("more_title"), () => toggle(node))
  more.className = "more"
  const draw = () => more.setAttribute("aria-expanded", String(isOpen(node)))
  afterwards(node, "toggleAdvanced", draw)
  afterwards(node, "onConfigure", draw)
  draw()
  return more
}

function fold(node, widget) {
  widget.advanced = true
  const isLinked = () => node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null)
  const get = () => !isOpen(node) && !isLinked()
  Object.defineProperty(widget, "hidden", { get, set: () => {}, configurable: true })
}

/**
 * Let no folded input take room. From 1.58 on the frontend draws no advanced input that is folded, and still makes a
 * node as high as if it did, at each drawing.
 */
function leaveOut(node) {
  const laidOut = node.getLayoutWidgets
  if (!laidOut) return
  node.getLayoutWidgets = () => laidOut.call(node).filter((widget) => !widget.hidden)
}

const isOpen = (node) => Boolean(node.showAdvanced || app.extensionManager.setting.get(ALWAYS))

function toggle(node) {
  node.toggleAdvanced()
  node.setSize([node.size[0], node.computeSize()[1]])
}
