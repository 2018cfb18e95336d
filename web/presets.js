// Presets: a choice that sets other inputs of its node, where one sees them.

import { app } from "../../scripts/app.js"
import { afterwards, setWidget, widgetOf } from "./node_elements.js"

const CUSTOM = "custom"

app.registerExtension({ name: "personalize.presets", nodeCreated: bindPreset })

function bindPreset(node) {
  const presets = presetsOf(node)
  const choice = widgetOf(node, "preset")
  if (!presets || !choice) return
  let setting = false

  function apply() {
    setting = true
    for (const [name, value] of Object.entries(presets[choice.value] ?? {})) setWidget(widgetOf(node, name), value)
    setting = false
  }

  /** What is set by hand is no preset any more. */
  function compare() {
    const values = Object.entries(presets[choice.value] ?? {})
    if (!setting && values.some(([name, value]) => widgetOf(node, name).value !== value)) choice.value = CUSTOM
  }

  const names = new Set(Object.values(presets).flatMap(Object.keys))
  for (const name of names) afterwards(widgetOf(node, name), "callback", compare)
  afterwards(choice, "callback", apply)
  afterwards(node, "onConfigure", apply)
}

/** Values by preset and input, as the server's schema of the node has them. */
function presetsOf(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {}
  return (required?.preset ?? optional?.preset)?.[1]?.presets
}
