// The saved concepts as the server lists them; see nodes/routes.py and host/shelf.py.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const ROUTE = "/personalize/concepts"
const listeners = new Set()
let concepts = []
let makers = {}
let uses = {}
let asked = 0
let taken = 0 // which of the answers that were asked for is shown

/** All saved concepts: {name, card, problem, hides, changed, thumbnail, sheet}; card is null when there is a problem. */
export const allConcepts = () => concepts

/** What a node of this type makes: {method, method_name, with_class_word}, or undefined. */
export const madeBy = (nodeType) => makers[nodeType]

/** The inputs of Apply Concept that do something for some methods only: all of these, and those of one method. */
export const sometimesUsed = () => new Set(Object.values(uses).flat())
export const usedBy = (method) => uses[method] ?? [...sometimesUsed()]

export const conceptNamed = (name) => concepts.find((concept) => concept.name === name)

/** Call the listener after every change of the list; returns a function that ends this. */
export function onShelfChange(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** Read the list again. Answers may come in another order than they were asked for: none replaces a later one. */
export async function refreshShelf() {
  const mine = ++asked
  const answer = await api.fetchApi(ROUTE, { cache: "no-store" })
  if (!answer.ok) return
  const shelf = await answer.json()
  if (mine < taken) return
  taken = mine
  ;({ concepts, makers, uses } = shelf)
  listeners.forEach((listener) => listener())
}

/** Address of a concept's "thumbnail" or "sheet"; null when it has none. */
export function pictureOf(concept, kind) {
  if (!concept[kind]) return null
  const query = new URLSearchParams({ name: concept.name, kind, changed: concept[kind] })
  return api.apiURL(`${ROUTE}/picture?${query}`)
}

/** Read the lists of all nodes again, which this list follows, as R does; without the notice that R shows. */
export const refreshLists = () => (app.reloadNodeDefs ?? app.refreshComboInNodes).call(app)

/**
 * Address of a concept's file with its card, to give away.
 * @param {string} name
 */
export const sharedAddress = (name) => api.apiURL(`${ROUTE}/share?${new URLSearchParams({ name })}`)

/** Key of the base model that a file in a folder of the host is of, "" when nothing tells it. */
export async function baseOfFile(kind, name) {
  const answer = await api.fetchApi(`${ROUTE}/base?${new URLSearchParams({ kind, name })}`)
  return answer.ok ? (await answer.json()).base : ""
}

/** What was deleted: {name, changed}, the last first; nothing when the server does not answer. */
export async function fetchTrash() {
  const answer = await api.fetchApi(`${ROUTE}/trash`, { cache: "no-store" })
  return answer.ok ? (await answer.json()).trash : []
}

/** Put a deleted concept back; returns its name. Throws with the server's sentence. */
export const restoreConcept = (name) => change("restore", { name })

/** Give a concept's file another name; returns that name. Throws with the server's sentence. */
export const renameConcept = (name, wanted) => change("rename", { name, wanted })

/** Put a concept's file into the trash; returns where it lies. Throws with the server's sentence. */
export const deleteConcept = (name) => change("delete", { name })

async function change(action, body) {
  const answer = await api.fetchApi(`${ROUTE}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  })
  const content = await answer.json()
  if (!answer.ok) throw new Error(content.error)
  return content.result
}
