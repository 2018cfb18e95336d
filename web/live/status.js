import { text } from "./texts.js"

const NOTES = new Set(["encoding", "making_prior"]) // as the server names them
const ENDS = { finished: "learned", stopped: "stopped", kept: "kept", cancelled: "cancelled", failed: "failed" }

/** What is going on, in a word that changes seldom. */
export function stageLine({ stage, step }) {
  if (stage === "running") return text(step ? "learning" : "preparing")
  return text(ENDS[stage])
}

/** What is done before the first step; then step, rate and time left. */
export function statusLine({ stage, step, steps, rate, left, note }) {
  if (stage === "running" && NOTES.has(note?.key)) return text(note.key, note.values)
  const parts = [text("step_of", { step, steps })]
  if (stage === "running" && rate) parts.push(speed(rate), text("left", { time: clock(left) }))
  return parts.join(" · ")
}

const speed = (rate) =>
  rate >= 1
    ? text("steps_a_second", { rate: rate.toFixed(1) })
    : text("seconds_a_step", { seconds: (1 / rate).toFixed(1) })

function clock(seconds) {
  const whole = Math.round(seconds)
  const two = (n) => String(n).padStart(2, "0")
  const minutes = Math.floor(whole / 60)
  return minutes < 60
    ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`
}
