/** Given to every file by the build: `h(tag, props, child)` is shorter than the automatic runtime's `jsx(tag, { children })`. */
export { Fragment, h } from "preact";
