/** The second script (state/extra.ts): what the page can show beside the tree and the picture. */
export { cellsWithColours, drawDetails, edgeText, withColours } from "./heatmap/details";
export { ColourScale } from "./panels/colour-scale";
export { ComparisonTable } from "./panels/comparison";
export { Details } from "./panels/details";
export { EditBar } from "./panels/edit-bar";
export { FlowStage } from "./panels/flow";
export { Header } from "./panels/header";
export { Help } from "./panels/help";
export { Inspector } from "./panels/inspector";
export { ModelMap } from "./panels/model-map";
export { OverPicture } from "./panels/over-picture";
export { fitRoom } from "./panels/room";
export { Caption, SecondPicture } from "./panels/second-picture";
export { Splitters } from "./panels/splitter";
export { Toolbar } from "./panels/toolbar";
export { TransferTable } from "./panels/transfer";
export { Tree } from "./panels/tree";
export { Verdict } from "./panels/verdict";
