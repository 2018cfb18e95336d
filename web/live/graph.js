import { app } from "../../../scripts/app.js"

const root = () => app.rootGraph ?? app.graph

export const workflowId = () => String(root()?.id ?? "")

/** The node of an execution id: "7", or "12:7" for node 7 in the subgraph of node 12. */
export function nodeAt(executionId) {
  const path = String(executionId).split(":")
  const last = path.pop()
  let graph = root()
  for (const id of path) graph = graph?.getNodeById(id)?.subgraph
  return graph?.getNodeById(last) ?? null
}
