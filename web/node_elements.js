// What this pack shows on nodes: elements of its own, and hooks that follow those of others.

/** Add an element that is no input, as wide as its node. */
export function addElement(node, name, type, element, options) {
  const widget = node.addDOMWidget(name, type, element, { serialize: false, hideOnZoom: false, ...options })
  widget.serialize = false
  // the frontend's side panel draws it to its own width, and leaves that on the widget
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {} })
}

/** Call `then` after each call of a node's hook. */
export function afterwards(node, hook, then) {
  const previous = node[hook]
  node[hook] = function (...args) {
    const result = previous?.apply(this, args)
    then(...args)
    return result
  }
}
