// Texts in the user's language, from locales/<language>/main.json of this pack. English is the fallback.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const texts = {}
let loading = null

/** Fetch the texts, once; every extension awaits it in its setup. */
export const loadTexts = () => (loading ??= fetchTexts())

async function fetchTexts() {
  const answer = await api.fetchApi("/i18n")
  const all = await answer.json()
  const language = app.extensionManager.setting.get("Comfy.Locale") ?? "en"
  const chosen = [all.en, all[language.split("-")[0]], all[language]]
  for (const messages of chosen)
    for (const [part, ofPart] of Object.entries(messages?.personalize ?? {}))
      texts[part] = { ...texts[part], ...ofPart }
}

/**
 * The texts of one part, by key, with {name} replaced by values.name. They are plain text: never
 * put one into innerHTML.
 */
export const textsOf = (part) => (key, values = {}) =>
  (texts[part]?.[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole)
