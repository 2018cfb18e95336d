import { element } from "./elements.js"
import { previewAddress } from "./requests.js"
import { text } from "./texts.js"

/** The preview of a step, and a slider through all of them; it follows the newest one until it is
 * moved back. */
export function makePreviews() {
  const image = element("img")
  const slider = element("input")
  const label = element("span", "step")
  const root = element("div", "previews", [image, slider, label])
  let run = null
  let following = true
  slider.type = "range"
  slider.min = 0
  slider.setAttribute("aria-label", text("preview"))
  slider.addEventListener("input", () => {
    following = Number(slider.value) === run.previews.length - 1
    showStep()
  })

  function showStep() {
    const step = run.previews[Number(slider.value)]
    const address = previewAddress(run, step)
    label.textContent = text("step", { step })
    slider.setAttribute("aria-valuetext", label.textContent)
    image.alt = text("preview_at", { step })
    if (image.getAttribute("src") !== address) image.src = address
  }

  function draw(newRun, isNew) {
    following ||= isNew
    run = newRun
    const last = run.previews.length - 1
    root.classList.toggle("empty", last < 0)
    slider.disabled = last < 1
    slider.max = Math.max(last, 0)
    if (following) slider.value = last
    if (last >= 0) showStep()
    else {
      image.removeAttribute("src")
      label.textContent = ""
    }
  }

  return { root, draw }
}
