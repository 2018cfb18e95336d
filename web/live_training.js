// The live view of trainings: what happens in a Train node, on that node.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt, workflowId } from "./graph.js"
import { attachPanel, panelOf, panels } from "./live/panels.js"
import { fetchRun, fetchRuns } from "./live/requests.js"
import { follow } from "./live/run.js"
import { loadTexts } from "./texts.js"

const EVENT = "personalize.live"

app.registerExtension({
  name: "personalize.liveTraining",
  async setup() {
    await loadTexts()
    api.addEventListener(EVENT, ({ detail }) => onNews(detail))
    api.addEventListener("execution_error", ({ detail }) => onError(detail))
    document.addEventListener("visibilitychange", () => document.hidden || showAll())
  },
  nodeCreated: attachPanel,
  afterConfigureGraph: showAll,
})

/** Take in what the server tells; what a hidden page misses is asked for when it is seen again. */
async function onNews(news) {
  if (document.hidden || news.workflow !== workflowId()) return
  const panel = panelOf(nodeAt(news.node))
  if (!panel) return
  const run = follow(panel.run, news)
  if (run) panel.show(run)
  else panel.ask(() => fetchRun(news.prompt, news.node))
}

/** A node that failed before its training began has no news to tell. */
function onError({ prompt_id: prompt, node_id: node, exception_message: error }) {
  panelOf(nodeAt(node))?.fail({ prompt, node: String(node), error })
}

/** Show the last run of each Train node of this workflow, after a reload or an absence. */
function showAll() {
  if (document.hidden || panels.size === 0) return
  const runs = fetchRuns(workflowId())
  // looked up when the answer is there: by then another workflow may be shown, whose nodes have the same numbers
  for (const panel of panels) panel.ask(async () => (await runs).find(({ node }) => panelOf(nodeAt(node)) === panel))
}
