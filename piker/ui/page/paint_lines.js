// Lines over the bars: other markets as percent overlays, and the marks of the view's high and low.

import { posOf } from './ladder.js';
import { formatPrice } from './num.js';
import { drawText, textWidth } from './text.js';

const CHIP_CSS = [170, 40];

/** Paints closes of `overlay` = {spans, rung, base, color} scaled so that its base meets the own base. */
export function paintOverlay(ctx, scene, overlay) {
  const { g, view, s, y } = scene;
  const shift = g.plotW - view.right * s + (s * overlay.rung) / view.period / 2;
  ctx.strokeStyle = overlay.color;
  ctx.lineWidth = g.h;
  ctx.lineJoin = 'round';
  ctx.beginPath();
  let begun = false;
  for (const { b, i0, i1 } of overlay.spans) {
    for (let i = i0; i < i1; i += 1) {
      const close = (b.c[i] / overlay.base) * scene.base;
      if (close !== close) continue;
      const x = shift + posOf(b.t[i], view.period) * s;
      if (begun) ctx.lineTo(x, y(close));
      else ctx.moveTo(x, y(close));
      begun = true;
    }
  }
  ctx.stroke();
}

/** Marks the highest and lowest price of the view: `scene.extremes` = {high: {t, price}, low: {…}}. */
export function paintExtremes(ctx, scene) {
  const { extremes, view } = scene;
  if (!extremes) return;
  mark(ctx, scene, extremes.high, view.invert ? 1 : -1);
  mark(ctx, scene, extremes.low, view.invert ? -1 : 1);
}

function mark(ctx, scene, { t, price, rung }, side) {
  const { g, view, s, y, colors, faces } = scene;
  const x = Math.round(g.plotW - (view.right - posOf(t, view.period)) * s + (s * rung) / view.period / 2);
  const row = Math.round(y(price)) + Math.round(side * 10 * g.dpr);
  if (row < 8 * g.dpr || row > g.plotH - 8 * g.dpr || x < 0 || x > g.plotW) return;
  const text = formatPrice(price, scene.digits);
  const dash = Math.round(10 * g.dpr);
  const gap = Math.round(4 * g.dpr);
  const width = textWidth(ctx, faces.axis, text);
  const isLeft = x + 3 * gap + dash + width > g.plotW;
  if (isUnderChip(scene, x, row)) return;
  ctx.fillStyle = colors.text2;
  ctx.fillRect(isLeft ? x - dash - gap : x + gap, row, dash, g.h);
  drawText(ctx, faces.axis, text, isLeft ? x - dash - 2 * gap : x + dash + 2 * gap, row, isLeft ? 'right' : 'left');
}

/** The `now` chip stands in the lower right corner while the view does not follow. */
function isUnderChip({ g, view }, x, row) {
  return !view.follow && x > g.plotW - CHIP_CSS[0] * g.dpr && row > g.plotH - CHIP_CSS[1] * g.dpr;
}
