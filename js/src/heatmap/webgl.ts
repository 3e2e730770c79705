/**
 * The picture with WebGL2: a tile is a float texture, and one pass of its pixels finds the cell in two tables (the sheet
 * cell under each column and row of pixels), the bin in the tile, and the colour in the table.
 */
import { type Colours, ENTRIES, NAN_ENTRY, NEGATIVE_ENTRY, POSITIVE_ENTRY } from "./colormap";
import type { DrawTile, Renderer, Scene } from "./renderer";
import type { Plane } from "./tile-cache";

const VERTEX = `#version 300 es
void main() {
  // One triangle over everything; the scissor cuts out the tile.
  gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}`;

// Not isnan() and isinf(): drivers may assume there is no such thing. The exponent's bits say it.
const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp isampler2D;
uniform highp sampler2D plane;
uniform isampler2D columns;
uniform isampler2D rows;
uniform sampler2D colours;
uniform ivec2 level;   // column, row
uniform ivec2 first;   // first bin of the tile
uniform ivec2 bins;    // size of the tile
uniform ivec4 clip;    // column0, row0, column1, row1
uniform ivec2 blank;
uniform int height;
uniform float limit;
uniform bool waiting;
out vec4 colour;
void main() {
  ivec2 pixel = ivec2(int(gl_FragCoord.x), height - 1 - int(gl_FragCoord.y));
  ivec2 cell = ivec2(texelFetch(columns, ivec2(pixel.x, 0), 0).r, texelFetch(rows, ivec2(pixel.y, 0), 0).r);
  if (cell.x < 0 || cell.y < 0 || (cell.x >= blank.x && cell.y >= blank.y)) discard;
  if (waiting) { colour = texelFetch(colours, ivec2(${ENTRIES}, 0), 0); return; }
  if (any(lessThan(cell, clip.xy)) || any(greaterThanEqual(cell, clip.zw))) discard;
  ivec2 bin = (cell >> level) - first;
  if (any(lessThan(bin, ivec2(0))) || any(greaterThanEqual(bin, bins))) discard;
  float value = texelFetch(plane, bin, 0).r;
  uint bits = floatBitsToUint(value);
  int entry;
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    entry = (bits & 0x007fffffu) != 0u ? ${NAN_ENTRY} : (bits >> 31) == 0u ? ${POSITIVE_ENTRY} : ${NEGATIVE_ENTRY};
  } else {
    entry = 128 + int(floor(clamp(value / limit, -1.0, 1.0) * 127.0 + 0.5));
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
  "limit",
  "waiting",
] as const;

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
  let colours_in: Colours | null = null;
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
        const all = new Uint8Array((ENTRIES + 1) * 4);
        all.set(scene.colours.table);
        all.set([...scene.colours.waiting, 255], ENTRIES * 4);
        gl.activeTexture(gl.TEXTURE3);
        gl.bindTexture(gl.TEXTURE_2D, colour_table);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, ENTRIES + 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, all);
      }
      gl.uniform1i(at.plane, 0);
      gl.uniform1i(at.columns, 1);
      gl.uniform1i(at.rows, 2);
      gl.uniform1i(at.colours, 3);
      gl.uniform2i(at.blank, scene.blank.column, scene.blank.row);
      gl.uniform1i(at.height, height);
      gl.uniform1f(at.limit, scene.limit);
      gl.uniform1i(at.waiting, 1);
      // A sampler must have a texture of its kind, also in the pass that does not look at it.
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, planes.values().next().value ?? colour_table);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
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
