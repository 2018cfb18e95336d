import { api } from "../../../scripts/api.js"

const PREFIX = "/personalize/live"

const query = (values) => new URLSearchParams(values).toString()

/** The histories of a workflow's nodes; none when the server does not answer. */
export async function fetchRuns(workflow) {
  const answer = await api.fetchApi(`${PREFIX}?${query({ workflow })}`)
  return answer.ok ? (await answer.json()).runs : []
}

/** The history of one run, null when the server has forgotten it. */
export async function fetchRun(prompt, node) {
  const answer = await api.fetchApi(`${PREFIX}/run?${query({ prompt, node })}`)
  return answer.ok ? answer.json() : null
}

export const previewAddress = ({ prompt, node }, step) =>
  api.apiURL(`${PREFIX}/preview?${query({ prompt, node, step })}`)

export const stopRun = (run) => post("stop", run)
export const continueRun = (run) => post("continue", run)

async function post(action, { prompt, node }) {
  const answer = await api.fetchApi(`${PREFIX}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt, node }),
  })
  return answer.ok
}
