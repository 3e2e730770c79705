/** Given to every file by the build, which turns JSX into calls of these; names that no file would use for its own. */
export { Fragment as JsxFragment, h as jsxElement } from "preact";
