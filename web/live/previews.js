import { element, button, setText } from "./elements.js"
import { previewAddress } from "./requests.js"
import { text } from "./texts.js"

/**
 * The first preview of a step, and a slider through all steps; it follows the newest one until it is
 * moved back. A click on the picture opens them large.
 * @param {(step: number) => void} open
 */
export function makePreviews(open) {
  const image = element("img")
  const large = button(image, text("open_title"), () => open(shownStep()))
  const slider = element("input")
  const label = element("span", "step")
  const root = element("div", "previews", [large, slider, label])
  let run = null
  let following = true
  large.className = "large"
  slider.type = "range"
  slider.min = "0"
  slider.setAttribute("aria-label", text("preview"))
  slider.addEventListener("input", () => {
    following = Number(slider.value) === run.previews.length - 1
    showStep()
  })

  const shownStep = () => run.previews[Number(slider.value)]

  function showStep() {
    const step = shownStep()
    const address = previewAddress(run, step)
    setText(label, text("step", { step }))
    slider.setAttribute("aria-valuetext", label.textContent ?? "")
    image.alt = text("preview_at", { step })
    if (image.getAttribute("src") !== address) image.src = address
  }

  function draw(newRun, isNew = false) {
    following ||= isNew
    run = newRun
    const last = run.previews.length - 1
    root.classList.toggle("empty", last < 0)
    large.disabled = last < 0
    slider.disabled = last < 1
    slider.max = String(Math.max(last, 0))
    if (following) slider.value = String(run.stage === "kept" ? run.previews.indexOf(run.step) : last)
    if (last >= 0) showStep()
    else {
      image.removeAttribute("src")
      label.textContent = ""
    }
  }

  return { root, draw }
}
