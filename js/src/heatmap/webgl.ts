/**
 * The picture with WebGL2: a tile is a float texture, and one pass of its pixels finds the cell in two tables (the sheet
 * cell under each column and row of pixels), the bin in the tile, and the colour in the table.
 */
import { type Colours, ENTRIES } from "./colormap";
import type { DrawTile, Renderer, Scene } from "./renderer";
import { ABOVE_ENTRY, BELOW_ENTRY, NAN_ENTRY, NEGATIVE_ENTRY, POSITIVE_ENTRY, type Scale } from "./scale";
import type { Plane } from "./tile-cache";

const VERTEX = `#version 300 es
void main() {
  // One triangle over everything; the scissor cuts out the tile.
  gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}`;

// level: column, row. first: first bin of the tile; bins: its size. clip: column0, row0, column1, row1. range: low, high.
// formula: origin, gain, knee and base of scale.ts, which says where to begin; the edges decide. curve: see CURVES.
// Not isnan() and isinf(): drivers may assume there is no such thing. The exponent's bits say it.
const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp isampler2D;
uniform highp sampler2D plane, edges;
uniform isampler2D columns, rows;
uniform sampler2D colours;
uniform ivec2 level, first, bins, blank;
uniform ivec4 clip;
uniform int height, curve;
uniform vec2 range;
uniform vec4 formula;
uniform bool hatched, waiting;
out vec4 colour;
float edge(int entry) { return texelFetch(edges, ivec2(entry, 0), 0).r; }
int within(float value) {
float at = curve == 0 ? value : curve == 1 ? sign(value) * log(1.0 + abs(value) / formula.z) : log(value);
int entry = int(clamp(formula.w + floor((at - formula.x) * formula.y + 0.5), 1.0, 255.0));
while (entry < 255 && value >= edge(entry + 1)) entry++;
while (entry > 1 && value < edge(entry)) entry--;
return entry;
}
void main() {
ivec2 pixel = ivec2(int(gl_FragCoord.x), height - 1 - int(gl_FragCoord.y));
ivec2 cell = ivec2(texelFetch(columns, ivec2(pixel.x, 0), 0).r, texelFetch(rows, ivec2(pixel.y, 0), 0).r);
if (cell.x < 0 || cell.y < 0 || (cell.x >= blank.x && cell.y >= blank.y)) discard;
if (waiting) { colour = texelFetch(colours, ivec2(${ENTRIES + 1}, 0), 0); return; }
if (any(lessThan(cell, clip.xy)) || any(greaterThanEqual(cell, clip.zw))) discard;
ivec2 bin = (cell >> level) - first;
if (any(lessThan(bin, ivec2(0))) || any(greaterThanEqual(bin, bins))) discard;
float value = texelFetch(plane, bin, 0).r;
uint bits = floatBitsToUint(value);
int entry;
if ((bits & 0x7f800000u) == 0x7f800000u) {
entry = (bits & 0x007fffffu) != 0u ? ${NAN_ENTRY} : (bits >> 31) == 0u ? ${POSITIVE_ENTRY} : ${NEGATIVE_ENTRY};
int across = entry == ${POSITIVE_ENTRY} ? pixel.y : entry == ${NEGATIVE_ENTRY} ? pixel.x : pixel.x + pixel.y;
if (hatched && (across & 3) == 0) entry = ${ENTRIES};
} else {
float shown = curve == 2 ? abs(value) : value;
entry = shown > range.y ? ${ABOVE_ENTRY} : shown < range.x ? ${BELOW_ENTRY} : within(shown);
}
colour = texelFetch(colours, ivec2(entry, 0), 0);
}`;

const UNIFORMS = [
  "plane",
  "columns",
  "rows",
  "colours",
  "level",
  "first",
  "bins",
  "clip",
  "blank",
  "height",
  "edges",
  "range",
  "formula",
  "curve",
  "hatched",
  "waiting",
] as const;

const CURVES: readonly Scale["curve"][] = ["linear", "symlog", "log"];

/** Textures kept: more than a screen of tiles, at 64 KB each. */
const MOST_TEXTURES = 400;

function compile(gl: WebGL2RenderingContext): WebGLProgram | null {
  const program = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(type);
    if (!shader) return null;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    gl.deleteShader(shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

/** null where WebGL2 is not to be had. `onLost` is called once when the browser takes the context away. */
export function createWebgl(canvas: HTMLCanvasElement, onLost: () => void): Renderer | null {
  const gl = canvas.getContext("webgl2", {
    alpha: false,
    antialias: false,
    depth: false,
    // So that a picture can be read back at any time, by tests and by "save image".
    preserveDrawingBuffer: true,
    powerPreference: "low-power",
  });
  const program = gl && compile(gl);
  if (!gl || !program) {
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
    return null;
  }
  const at = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)])) as Record<
    (typeof UNIFORMS)[number],
    WebGLUniformLocation | null
  >;
  const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
  const lost = (event: Event) => {
    event.preventDefault();
    onLost();
  };
  canvas.addEventListener("webglcontextlost", lost, { once: true });

  const texture = (unit: number): WebGLTexture => {
    const made = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, made);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    return made;
  };
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const column_table = texture(1);
  const row_table = texture(2);
  const colour_table = texture(3);
  const edge_table = texture(4);
  let colours_in: Colours | null = null;
  let scale_in: Scale | null = null;
  // Insertion order is order of use.
  const planes = new Map<Plane, WebGLTexture>();

  const table = (unit: number, target: WebGLTexture, cells: Int32Array) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, target);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32I, cells.length, 1, 0, gl.RED_INTEGER, gl.INT, cells);
  };

  const bindPlane = (tile: DrawTile) => {
    const known = planes.get(tile.plane);
    gl.activeTexture(gl.TEXTURE0);
    if (known) {
      planes.delete(tile.plane);
      planes.set(tile.plane, known);
      gl.bindTexture(gl.TEXTURE_2D, known);
      return;
    }
    planes.set(tile.plane, texture(0));
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, tile.columns, tile.rows, 0, gl.RED, gl.FLOAT, tile.plane);
  };

  return {
    kind: "webgl",
    canvas,
    draw(scene: Scene) {
      const { width, height } = scene;
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
      }
      if (width === 0 || height === 0 || Math.max(width, height) > largest) return;
      gl.viewport(0, 0, width, height);
      gl.disable(gl.SCISSOR_TEST);
      const [red, green, blue] = scene.colours.background;
      gl.clearColor(red / 255, green / 255, blue / 255, 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.useProgram(program);
      table(1, column_table, scene.columns);
      table(2, row_table, scene.rows);
      if (colours_in !== scene.colours) {
        colours_in = scene.colours;
        const all = new Uint8Array((ENTRIES + 2) * 4);
        all.set(scene.colours.table);
        all.set([...scene.colours.mark, 255, ...scene.colours.waiting, 255], ENTRIES * 4);
        gl.activeTexture(gl.TEXTURE3);
        gl.bindTexture(gl.TEXTURE_2D, colour_table);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, ENTRIES + 2, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, all);
      }
      const { scale } = scene;
      if (scale_in !== scale) {
        scale_in = scale;
        gl.activeTexture(gl.TEXTURE4);
        gl.bindTexture(gl.TEXTURE_2D, edge_table);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, 256, 1, 0, gl.RED, gl.FLOAT, scale.edges);
        gl.uniform2f(at.range, scale.low, scale.high);
        gl.uniform4f(at.formula, scale.origin, scale.gain, scale.knee, scale.base);
        gl.uniform1i(at.curve, CURVES.indexOf(scale.curve));
      }
      gl.uniform1i(at.plane, 0);
      gl.uniform1i(at.columns, 1);
      gl.uniform1i(at.rows, 2);
      gl.uniform1i(at.colours, 3);
      gl.uniform2i(at.blank, scene.blank.column, scene.blank.row);
      gl.uniform1i(at.height, height);
      gl.uniform1i(at.edges, 4);
      gl.uniform1i(at.hatched, scene.hatched ? 1 : 0);
      if (!scene.whole) {
        gl.uniform1i(at.waiting, 1);
        // A sampler must have a texture of its kind, also in the pass that does not look at it.
        gl.activeTexture(gl.TEXTURE0);
        gl.bindTexture(gl.TEXTURE_2D, planes.values().next().value ?? colour_table);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      }
      gl.uniform1i(at.waiting, 0);
      gl.enable(gl.SCISSOR_TEST);
      for (const tile of scene.tiles) {
        bindPlane(tile);
        const { clip } = tile;
        gl.uniform2i(at.level, tile.column_level, tile.row_level);
        gl.uniform2i(at.first, tile.column, tile.row);
        gl.uniform2i(at.bins, tile.columns, tile.rows);
        gl.uniform4i(at.clip, clip.column0, clip.row0, clip.column1, clip.row1);
        const x = Math.max(0, tile.x0 - 1);
        const y = Math.max(0, height - tile.y1 - 1);
        gl.scissor(x, y, Math.max(0, tile.x1 + 1 - x), Math.max(0, height - tile.y0 + 1 - y));
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      }
      for (const [plane, each] of planes) {
        if (planes.size <= MOST_TEXTURES) break;
        gl.deleteTexture(each);
        planes.delete(plane);
      }
    },
    readPixel(x, y) {
      const out = new Uint8Array(4);
      gl.readPixels(x, canvas.height - 1 - y, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, out);
      return [out[0] ?? 0, out[1] ?? 0, out[2] ?? 0];
    },
    dispose() {
      canvas.removeEventListener("webglcontextlost", lost);
      planes.clear();
      // A page has about 16 contexts; waiting for the collector would take them from other views.
      gl.getExtension("WEBGL_lose_context")?.loseContext();
      canvas.width = 0;
      canvas.height = 0;
    },
  };
}
