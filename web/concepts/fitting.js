// Which base model the shown workflow draws with: cards of concepts for another one are greyed out.

import { allNodes } from "../graph.js"
import { widgetOf } from "../node_elements.js"
import { baseOfFile } from "./shelf.js"
import { isOff } from "./workflow.js"

/** What names a file: the host's folder and the widget. */
const LOADERS = {
  CheckpointLoaderSimple: ["checkpoints", "ckpt_name"],
  CheckpointLoader: ["checkpoints", "ckpt_name"],
  UNETLoader: ["diffusion_models", "unet_name"],
}
/** @type {Map<string, Promise<string>>} */
const known = new Map()
let asked = 0

/** Grey out the cards that do not fit; none when the workflow has models of several bases, or of none that is known. */
export async function greyOut(cards) {
  const mine = ++asked
  const base = await workflowBase()
  if (mine !== asked) return
  for (const card of cards.querySelectorAll(".personalize-card")) {
    const own = card.dataset.base
    card.classList.toggle("personalize-unfit", Boolean(base && own && own !== base))
  }
}

async function workflowBase() {
  const bases = new Set(await Promise.all([...allNodes()].map(baseOf)))
  bases.delete(null)
  return bases.size === 1 ? [...bases][0] : ""
}

/** Base of the model that a node loads, null for a node that loads none. */
function baseOf(node) {
  const [kind, widget] = LOADERS[node.type] ?? []
  if (!kind || isOff(node)) return null
  const name = String(widgetOf(node, widget)?.value ?? "")
  const key = `${kind}/${name}`
  if (!known.has(key)) known.set(key, baseOfFile(kind, name))
  return known.get(key)
}
