import { api } from "../../../scripts/api.js"

const PREFIX = "/personalize/live"

const query = (values) => new URLSearchParams(values).toString()

/**
 * The histories of a workflow's nodes; none when the server does not answer.
 * @param {string} workflow
 */
export async function fetchRuns(workflow) {
  const answer = await api.fetchApi(`${PREFIX}?${query({ workflow })}`)
  return answer.ok ? (await answer.json()).runs : []
}

/**
 * The history of one run, null when the server has forgotten it.
 * @param {string} prompt
 * @param {string} node
 */
export async function fetchRun(prompt, node) {
  const answer = await api.fetchApi(`${PREFIX}/run?${query({ prompt, node })}`)
  return answer.ok ? answer.json() : null
}

/**
 * @param {{prompt: string, node: string}} run
 * @param {number} step
 * @param {number} number of its prompt, from 0
 */
export const previewAddress = ({ prompt, node }, step, number = 0) =>
  api.apiURL(`${PREFIX}/preview?${query({ prompt, node, step, number })}`)

export const stopRun = (run) => post("stop", run)
export const continueRun = (run) => post("continue", run)
export const keepStep = (run, step) => post("keep", run, { step: String(step) })

async function post(action, { prompt, node }, more = {}) {
  const answer = await api.fetchApi(`${PREFIX}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt, node, ...more }),
  })
  return answer.ok
}
