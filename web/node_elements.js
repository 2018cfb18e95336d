// What this pack shows on nodes: elements of its own, and hooks that follow those of others.

/**
 * Add an element that is no input, as wide as its node.
 * @param {any} node
 * @param {string} name
 * @param {string} type
 * @param {HTMLElement} element
 * @param {object} options
 */
export function addElement(node, name, type, element, options) {
  const widget = node.addDOMWidget(name, type, element, { serialize: false, hideOnZoom: false, ...options })
  widget.serialize = false
  // the frontend's side panel draws it to its own width, and leaves that on the widget
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {} })
}

/**
 * Call `then` after each call of a hook of a node or a widget.
 * @param {any} owner
 * @param {string} hook
 * @param {(...args: any[]) => void} then
 */
export function afterwards(owner, hook, then) {
  const previous = owner[hook]
  owner[hook] = function (...args) {
    const result = previous?.apply(this, args)
    then(...args)
    return result
  }
}

/**
 * @param {any} node
 * @param {string} name
 * @returns {any} the node's widget of that name
 */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

/**
 * Set a widget as its user would.
 * @param {any} widget
 * @param {unknown} value
 */
export function setWidget(widget, value) {
  widget.value = value
  widget.callback?.(value)
}

/**
 * A style sheet beside a module, once.
 * @param {string} path
 * @param {string} module its import.meta.url
 */
export function loadStyle(path, module) {
  const { href } = new URL(path, module)
  if (document.querySelector(`link[href="${href}"]`)) return
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }))
}
