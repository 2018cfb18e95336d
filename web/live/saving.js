import { app } from "../../../scripts/app.js"
import { besides, freePlace, inOneStep, inputSlot } from "../graph.js"
import { button, element } from "./elements.js"
import { text } from "./texts.js"

const ENDED = new Set(["finished", "stopped", "kept"])
const SAVERS = { CONCEPT: ["PersonalizeSaveConcept", "concept"], ELITE_ENCODER: ["PersonalizeSaveELITE", "elite"] }

/**
 * A line under a training that ended unsaved, with a button that adds what saves it.
 * @param {any} node
 * @param {() => void} leave called when the line goes that had the focus
 */
export function makeSaving(node, leave) {
  const root = element("p", "saving", [text("unsaved"), " ", button(text("save"), text("save_title"), save)])
  root.hidden = true

  function draw(run) {
    const hadFocus = root.contains(document.activeElement)
    root.hidden = !ENDED.has(run.stage) || isSaved(node)
    if (root.hidden && hadFocus) leave()
  }

  /** Nothing is learned again: the host takes the result of the training from its cache. */
  async function save() {
    const [type, input] = SAVERS[node.outputs[0].type]
    const { graph } = node
    const saver = LiteGraph.createNode(type)
    inOneStep(graph, () => {
      saver.pos = freePlace(graph, saver.size, besides(node))
      graph.add(saver)
      node.connect(0, saver, inputSlot(saver, input))
    })
    await app.queuePrompt(0)
  }

  return { root, draw }
}

/** Does what was learned go to a node that saves it? Where a link leaves a subgraph, it may. */
function isSaved(node, output = 0, hops = 20) {
  return (node.outputs[output].links ?? []).some((id) => {
    const target = node.graph.getNodeById(node.graph.getLink(id)?.target_id)
    if (!target) return true
    if (target.type === "Reroute") return hops > 0 && isSaved(target, 0, hops - 1)
    return Boolean(target.subgraph) || Object.values(SAVERS).some(([type]) => type === target.type)
  })
}
