import { textsOf } from "../texts.js"

export const text = textsOf("concepts")
