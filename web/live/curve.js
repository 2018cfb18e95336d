/** Curves as the points of SVG polylines in a square of 100 x 100 that is stretched to its place. */

const SMOOTHING = 0.95
const MOST_DRAWN = 400

/** Exponential moving average over steps, without the pull of its start towards 0. */
export function smoothed(points) {
  let sum = 0
  let weight = 0
  let last = 0
  return points.map(([x, y]) => {
    const kept = SMOOTHING ** (x - last)
    last = x
    sum = kept * sum + (1 - kept) * y
    weight = kept * weight + (1 - kept)
    return [x, sum / weight]
  })
}

/** Lowest and highest value of all curves; on a log scale, of those above 0. Null without any. */
export function bounds(curves, log) {
  let low = Infinity
  let high = -Infinity
  for (const points of curves)
    for (const [, y] of points)
      if (!log || y > 0) {
        low = Math.min(low, y)
        high = Math.max(high, y)
      }
  return low <= high ? { low, high } : null
}

/** The value of a polyline's `points`, from x = 0 at the left to `steps` at the right. */
export function polyline(points, { low, high }, steps, log) {
  const scale = log ? Math.log : (y) => y
  const [bottom, top] = [scale(low), scale(high)]
  const height = top - bottom || 1
  const drawn = log ? points.filter(([, y]) => y > 0) : points
  const every = Math.max(1, Math.ceil(drawn.length / MOST_DRAWN))
  return drawn
    .filter((_, at) => at % every === 0 || at === drawn.length - 1)
    .map(([x, y]) => [(x / (steps || 1)) * 100, 97 - ((scale(y) - bottom) / height) * 94])
    .map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`)
    .join(" ")
}
