/** The second script (state/extra.ts): what the page can show beside the tree and the picture. */
export { cellsWithColours, drawDetails, edgeText, withColours } from "./heatmap/details";
export { ComparisonTable } from "./panels/comparison";
export { EditBar } from "./panels/edit-bar";
export { Help } from "./panels/help";
export { Inspector } from "./panels/inspector";
export { Toolbar } from "./panels/toolbar";
export { TransferTable } from "./panels/transfer";
export { Verdict } from "./panels/verdict";
