import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { attachPanel, panelOf, panels } from "./live/panels.js"
import { nodeAt, workflowId } from "./live/graph.js"
import { fetchRun, fetchRuns } from "./live/requests.js"
import { follow } from "./live/run.js"
import { loadTexts } from "./texts.js"

const EVENT = "personalize.live"

app.registerExtension({
  name: "personalize.liveTraining",
  async setup() {
    await loadTexts()
    api.addEventListener(EVENT, ({ detail }) => onNews(detail))
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

/** Show the last run of each Train node of this workflow, after a reload or an absence. */
async function showAll() {
  if (document.hidden || panels.size === 0) return
  for (const run of await fetchRuns(workflowId())) panelOf(nodeAt(run.node))?.showHistory(run)
}
