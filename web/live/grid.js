import { button, element, setText } from "./elements.js"
import { previewAddress } from "./requests.js"
import { text } from "./texts.js"

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }

/**
 * The previews large: one picture, and under it the prompts over the steps. It is filled only while
 * it is open.
 * @param {(step: number) => void} onKeep
 */
export function makeGrid(onKeep) {
  const image = element("img")
  const caption = element("figcaption")
  const table = element("table")
  const keep = button(text("keep"), "", keepShown)
  const close = button(text("close"), text("close"), () => dialog.close())
  const dialog = element("dialog", "personalize-grid", [
    element("figure", "", [image, caption]),
    element("div", "table", table),
    element("div", "controls", [keep, close]),
  ])
  let run = null
  let shown = { step: 0, number: 0 }
  let drawn = ""
  dialog.setAttribute("aria-label", text("previews"))
  table.setAttribute("role", "grid")
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close())
  dialog.addEventListener("close", onClose)

  /** The frontend's own keys wait while the dialog is open, Escape among them. */
  function onKeyDown(event) {
    event.stopPropagation()
    if (event.key === "Escape") dialog.close()
    else if (table.contains(event.target)) move(event)
  }

  function onClose() {
    window.removeEventListener("keydown", onKeyDown, true)
    dialog.remove()
  }

  function open(step) {
    window.addEventListener("keydown", onKeyDown, true)
    shown = { step, number: 0 }
    drawn = ""
    document.body.append(dialog)
    dialog.showModal()
    draw(run)
    cellOf(shown)?.focus()
  }

  function draw(newRun) {
    run = newRun
    if (!dialog.open) return
    const { prompt, node, previews, prompts } = run
    if (!previews.includes(shown.step)) return // of a run that has only begun
    const wanted = JSON.stringify([prompt, node, previews, prompts])
    if (drawn !== wanted) drawTable()
    drawn = wanted
    show(shown)
  }

  function drawTable() {
    const { previews, prompts } = run
    const focused = table.contains(document.activeElement)
    const head = element("tr", "", [element("td"), ...previews.map((step) => header("col", String(step)))])
    const rows = prompts.map((prompt, number) =>
      element("tr", "", [header("row", prompt), ...previews.map((step) => element("td", "", cell(step, number)))]),
    )
    table.replaceChildren(head, ...rows)
    if (focused) cellOf(shown)?.focus()
  }

  function cell(step, number) {
    const picture = element("img")
    Object.assign(picture, { src: previewAddress(run, step, number), alt: described(step, number), loading: "lazy" })
    const made = button(picture, described(step, number), () => show({ step, number }))
    made.addEventListener("focus", () => show({ step, number }))
    made.dataset.at = `${step} ${number}`
    return made
  }

  const described = (step, number) => `${text("step", { step })} · ${run.prompts[number]}`
  /** @returns {HTMLElement | null} */
  const cellOf = ({ step, number }) => table.querySelector(`[data-at="${step} ${number}"]`)

  function show(one) {
    shown = one
    const { step, number } = one
    const address = previewAddress(run, step, number)
    if (image.getAttribute("src") !== address) image.src = address
    image.alt = described(step, number)
    setText(caption, described(step, number))
    for (const made of table.querySelectorAll("button")) {
      const isShown = made.dataset.at === `${step} ${number}`
      made.setAttribute("aria-pressed", String(isShown))
      made.tabIndex = isShown ? 0 : -1
    }
    setText(keep, text("keep", { step }))
    const isKept = run.saved.includes(step)
    keep.disabled = run.stage === "running" || step === run.step || !isKept || !run.resumable
    keep.title = text(step === run.step ? "keep_current" : isKept ? "keep_title" : "keep_gone", { step })
  }

  function keepShown() {
    cellOf(shown)?.focus() // the button is disabled, and would lose the focus to the page
    keep.disabled = true // at once: other prompts may be before it in the queue, and one click is enough
    onKeep(shown.step)
  }

  function move(event) {
    const way = MOVES[event.key]
    if (!way) return
    event.preventDefault()
    const { previews, prompts } = run
    const column = within(previews.indexOf(shown.step) + way[1], previews.length)
    const number = within(shown.number + way[0], prompts.length)
    cellOf({ step: previews[column], number })?.focus()
  }

  return { open, draw, remove: onClose }
}

const within = (at, length) => Math.min(Math.max(at, 0), length - 1)

function header(scope, content) {
  const made = element("th", "", content)
  made.scope = scope
  return made
}
