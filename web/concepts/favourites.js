// The concepts that the user likes best, among the frontend's settings of that user.

import { app } from "../../../scripts/app.js"

const ID = "personalize.favourites"

/** For the extension's `settings`: the user never sees it. */
export const FAVOURITES = { id: ID, name: ID, type: "hidden", defaultValue: [] }

const all = () => app.extensionManager.setting.get(ID) ?? []

/** @param {string} name */
export const isFavourite = (name) => all().includes(name)

/** @param {string} name */
export const toggleFavourite = (name) =>
  app.extensionManager.setting.set(ID, isFavourite(name) ? all().filter((one) => one !== name) : [...all(), name])

/**
 * @param {string} name
 * @param {string} wanted the new name of its file
 */
export async function followFavourite(name, wanted) {
  if (isFavourite(name)) await app.extensionManager.setting.set(ID, all().map((one) => (one === name ? wanted : one)))
}
