/**
 * A run as this page knows it: what the server tells of it, and a curve for each loss term, made of
 * points [step, value]. `known` counts the steps that the curves cover.
 */

const MOST_POINTS = 3000

/** The run that a whole history describes. */
export function fromHistory(history) {
  const curves = {}
  for (const [name, values] of Object.entries(history.losses))
    curves[name] = values.map((value, at) => [middle(at, history), value])
  return { ...history, curves, known: history.step }
}

const middle = (at, { stride, step }) => (at * stride + 1 + Math.min((at + 1) * stride, step)) / 2

/** The run after news of it, null when steps are missing between what is known and the news. */
export function follow(run, news) {
  const known = isSame(run, news) ? run.known : 0
  if (news.start !== known) return null
  const curves = {}
  for (const [name, values] of Object.entries(news.losses)) {
    const before = known ? run.curves[name] ?? [] : []
    curves[name] = thinned(before.concat(values.map((value, at) => [news.start + at + 1, value])))
  }
  return { ...news, curves, known: news.step }
}

/** The run that a failure ended, of which the server tells nothing: what is known of an older run is
 * none of it. */
export const failed = (run, { prompt, node, error }) => ({
  ...{ curves: {}, previews: [], prompts: [], saved: [], known: 0, step: 0, steps: run?.steps ?? 0 },
  ...(isSame(run, { prompt, node }) ? run : {}),
  ...{ prompt, node, error, stage: "failed", resumable: false },
})

/** Is a history of a run older than what is known of it? */
export const isBehind = (history, run) =>
  history.step < run.known || (history.stage === "running" && run.stage !== "running")

export const isSame = (run, other) => run?.prompt === other.prompt && run.node === other.node

/** The total alone when its only term equals it. */
export function shownCurves({ curves }) {
  const names = Object.keys(curves)
  return names.length === 2 ? { loss: curves.loss } : curves
}

/** Of too many points, the means of neighbours. */
function thinned(points) {
  if (points.length <= MOST_POINTS) return points
  const halved = []
  for (let at = 0; at + 1 < points.length; at += 2) {
    const [[x, y], [x2, y2]] = [points[at], points[at + 1]]
    halved.push([(x + x2) / 2, (y + y2) / 2])
  }
  return halved
}
