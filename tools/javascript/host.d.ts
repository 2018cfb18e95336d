// What the host's page offers to extensions. It has no types of its own that an extension could read.

declare module "*/scripts/app.js" {
  export const app: any
}

declare module "*/scripts/api.js" {
  export const api: any
}

declare const LiteGraph: any
