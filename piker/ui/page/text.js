// Text on the canvas: digits laid in equal cells, with cached glyph widths.
// Canvas has no tabular numerals; when the font's digits are equally wide one plain fillText does.

const faces = new Map();
const WIDTHS_MAX = 2000;

/** The face for a css size and weight at a device-pixel ratio. */
export function face(ctx, family, size, dpr, weight = 400) {
  const font = `${weight} ${Math.round(size * dpr * 100) / 100}px ${family}`;
  let held = faces.get(font);
  if (!held) {
    ctx.font = font;
    const digits = [...'0123456789'].map((digit) => ctx.measureText(digit).width);
    const cell = Math.max(...digits);
    held = { font, cell, isEven: Math.max(...digits) - Math.min(...digits) < 0.01, widths: new Map() };
    faces.set(font, held);
  }
  return held;
}

/** Fonts may arrive late and screens change: forget what was measured. */
export const forgetFaces = () => faces.clear();

const isDigit = (char) => char >= '0' && char <= '9';

function glyph(ctx, held, char) {
  let width = held.widths.get(char);
  if (width === undefined) {
    width = ctx.measureText(char).width;
    held.widths.set(char, width);
  }
  return width;
}

/** Width in device px of `text` as `drawText` would lay it. */
export function textWidth(ctx, held, text) {
  const known = held.widths.get(text);
  if (known !== undefined) return known;
  ctx.font = held.font;
  let width = 0;
  if (held.isEven) width = ctx.measureText(text).width;
  else for (const char of text) width += isDigit(char) ? held.cell : glyph(ctx, held, char);
  if (held.widths.size > WIDTHS_MAX) held.widths.clear();
  held.widths.set(text, width);
  return width;
}

/** Draws `text` with its middle line at `y`; `align` is 'left', 'center' or 'right' of `x`. */
export function drawText(ctx, held, text, x, y, align = 'left') {
  ctx.font = held.font;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  let at = x;
  if (align !== 'left') at -= textWidth(ctx, held, text) / (align === 'center' ? 2 : 1);
  at = Math.round(at);
  const row = Math.round(y) + 0.5;
  if (held.isEven) {
    ctx.fillText(text, at, row);
    return;
  }
  for (const char of text) {
    const own = glyph(ctx, held, char);
    const cell = isDigit(char) ? held.cell : own;
    ctx.fillText(char, at + (cell - own) / 2, row);
    at += cell;
  }
}
