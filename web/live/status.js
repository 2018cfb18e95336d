/** What is going on, in a word that changes seldom. */
export function stageLine({ stage, step }) {
  if (stage === "running") return step ? "Learning" : "Preparing"
  return { finished: "Learned", stopped: "Stopped", cancelled: "Cancelled", failed: "Failed" }[stage]
}

/** Step, rate and time left. */
export function statusLine({ stage, step, steps, rate, left }) {
  const parts = [`step ${step} of ${steps}`]
  if (stage === "running" && rate) parts.push(speed(rate), `${clock(left)} left`)
  return parts.join(" · ")
}

const speed = (rate) => (rate >= 1 ? `${rate.toFixed(1)} steps/s` : `${(1 / rate).toFixed(1)} s/step`)

function clock(seconds) {
  const whole = Math.round(seconds)
  const two = (n) => String(n).padStart(2, "0")
  const minutes = Math.floor(whole / 60)
  return minutes < 60
    ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`
}
