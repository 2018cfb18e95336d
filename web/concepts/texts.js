// Texts in the user's language, from locales/<language>/main.json of this pack. English is the fallback.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

let texts = {}

export async function loadTexts() {
  const answer = await api.fetchApi("/i18n")
  const all = await answer.json()
  const language = app.extensionManager.setting.get("Comfy.Locale") ?? "en"
  const chosen = [all.en, all[language.split("-")[0]], all[language]]
  texts = Object.assign({}, ...chosen.map((messages) => messages?.personalize?.concepts))
}

/** A text with {name} replaced by values.name. It is plain text: never put it into innerHTML. */
export function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole)
}
