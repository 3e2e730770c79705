/**
 * Bundles the page into ../weightlab/jupyter/static: widget.js and widget.css, and extra.js.
 *
 * The first two travel with every saved widget, so there is no source map and a limit on the size. extra.js holds the panels
 * that the first picture does not need; the kernel hands it over on request (src/state/extra.ts).
 */
import { mkdir, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, context } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const LIMIT = 120_000;
const watch = process.argv.includes("--watch");
const out = here("../weightlab/jupyter/static");

const options = {
  absWorkingDir: here("."),
  entryPoints: { widget: "src/index.tsx" },
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: !watch,
  sourcemap: false,
  splitting: false,
  // Not tsconfig's: `h(tag, props, child)` is shorter than the automatic runtime's `jsx(tag, { children })`.
  tsconfigRaw: { compilerOptions: { jsx: "react", jsxFactory: "jsxElement", jsxFragmentFactory: "JsxFragment" } },
  inject: ["src/jsx.ts"],
  // Long names of our own that neither travel on the wire nor belong to the browser.
  mangleProps:
    /^(row_level|column_level|column|dispose|stopped|area|comparison|drawer|row_breaks|column_breaks|breaks|patience|shows|overlay|pixels|follow|focused|mouse|loader|cache|gaps|listed|stride|block_rows|block_columns|row_blocks|column_blocks|column0|column1|gesture|margins|selectAxes|selectText|openTensor|brush_size|brush_value|brush_mode|redraw|reduction|painting|store|actions|renderer|sheet|selection|session|caches|pointAt|setView|commitBrush|stage|wanted|hover|frame_request|takeState|takeHello|summaries|listeners|checkSoon|showView|reselect|editCells|anchor|setTrait|onTrait|nearest|dragged|extend|painted|missing|settled|cancelled|asked|held_axis|plain|negative_infinity|positive_infinity|beyond|knee|gain)$/,
  legalComments: "none",
  logLevel: "info",
};
// Its own entry: anywidget takes the style sheet as a second file, so the script must not import it.
const styles = { ...options, inject: [], entryPoints: { widget: "src/theme.css" } };
// A function of `require`: what both scripts use must be one and the same module.
const extra = {
  ...options,
  entryPoints: { extra: "src/extra.tsx" },
  format: "cjs",
  external: ["preact", "preact/hooks", "@preact/signals"],
  banner: { js: "export default (require) => { const module = { exports: {} };" },
  footer: { js: "return module.exports; };" },
};

await mkdir(out, { recursive: true });
if (watch) {
  for (const each of [options, extra, styles]) await (await context({ ...each, mangleProps: undefined })).watch();
} else {
  await build(styles);
  const { mangleCache } = await build({ ...options, mangleCache: {} });
  // The same short names on both sides.
  await build({ ...extra, mangleCache });
  const { size } = await stat(`${out}/widget.js`);
  if (size > LIMIT) {
    console.error(`widget.js: ${size} bytes, the limit is ${LIMIT}. It is stored with every widget of a notebook.`);
    process.exit(1);
  }
}
