import { bounds, polyline, smoothed } from "./curve.js"
import { element, svg } from "./elements.js"
import { shownCurves } from "./run.js"
import { text } from "./texts.js"

/** A chart of loss curves: faint as they are, strong as smoothed; `draw` takes the run. */
export function makeChart() {
  const high = element("span", "high")
  const low = element("span", "low")
  const plot = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" })
  const legend = element("ul", "legend")
  const hint = element("span", "hint", text("hint"))
  const root = element("div", "chart", [plot, high, low, legend, hint])
  let lines = {}

  function lineOf(name) {
    if (lines[name]) return lines[name]
    const term = `term${Object.keys(lines).length % 4}`
    const raw = svg("polyline", { class: `raw ${term}` })
    const smooth = svg("polyline", { class: `smooth ${term}` })
    const value = element("span", "value")
    const entry = element("li", term, [element("i", "key"), element("span", "name", name), value])
    plot.append(raw, smooth)
    legend.append(entry)
    return (lines[name] = { raw, smooth, value })
  }

  function clear() {
    plot.replaceChildren()
    legend.replaceChildren()
    lines = {}
  }

  function draw(run, log) {
    const curves = shownCurves(run)
    if (Object.keys(lines).some((name) => !curves[name])) clear()
    const range = bounds(Object.values(curves), log)
    high.textContent = range ? short(range.high) : ""
    low.textContent = range ? short(range.low) : ""
    hint.hidden = true
    plot.setAttribute("aria-label", range ? described(curves) : text("no_losses"))
    for (const [name, points] of Object.entries(curves)) {
      const { raw, smooth, value } = lineOf(name)
      const average = smoothed(points)
      raw.setAttribute("points", range ? polyline(points, range, run.steps, log) : "")
      smooth.setAttribute("points", range ? polyline(average, range, run.steps, log) : "")
      value.textContent = average.length ? short(average.at(-1)[1]) : ""
    }
  }

  return { root, draw, clear }
}

const short = (value) =>
  value && Math.abs(value) < 1e-3 ? value.toExponential(1) : Number(value.toPrecision(3)).toString()

function described(curves) {
  const ends = Object.entries(curves)
    .filter(([, points]) => points.length)
    .map(([name, points]) => `${name} ${short(smoothed(points).at(-1)[1])}`)
  return text("losses_now", { losses: ends.join(", ") })
}
