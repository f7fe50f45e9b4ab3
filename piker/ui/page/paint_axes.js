// Ground, grid, hatches, axis panels and their labels: everything of the base canvas but the data.

import { posOf } from './ladder.js';
import { formatVolume } from './num.js';
import { drawText, textWidth } from './text.js';

const LABEL_GAP_PX = 10;

/** Ground and grid: horizontal lines at price ticks, vertical ones at time ticks (days stronger). */
export function paintGrid(ctx, scene) {
  const { g, colors, view, s } = scene;
  ctx.fillStyle = colors.bg;
  ctx.fillRect(0, 0, g.w, g.hgt);
  if (!scene.grid) return;
  ctx.fillStyle = colors.grid;
  for (const { price } of scene.priceTicks) {
    const row = Math.round(scene.y(price));
    if (row >= 0 && row < g.plotH) ctx.fillRect(0, row, g.plotW, g.h);
  }
  for (const strong of [false, true]) {
    ctx.fillStyle = strong ? colors.line : colors.grid;
    for (const { t, rank } of scene.timeTicks) {
      if (rank > scene.rankLow !== strong) continue;
      const x = Math.round(g.plotW - (view.right - posOf(t, view.period)) * s);
      if (x >= 0 && x < g.plotW) ctx.fillRect(x, 0, g.h, g.timeTop);
    }
  }
}

/** Hatches stretches of the plot: `ranges` = [{x0, x1, kind}] in device px, kind 'empty' or 'warn'. */
export function paintHatch(ctx, scene, ranges) {
  const { g, colors } = scene;
  for (const { x0, x1, kind } of ranges) {
    const [a, b] = [Math.max(0, Math.round(x0)), Math.min(g.plotW, Math.round(x1))];
    if (b <= a) continue;
    ctx.fillStyle = kind === 'warn' ? colors.warnHatch : colors.hatch;
    ctx.fillRect(a, 0, b - a, g.timeTop);
  }
}

/** Amber ticks at the foot of the pane under what was missing and is filled now. */
export function paintGapTicks(ctx, scene, ticks) {
  const { g, colors } = scene;
  const tall = Math.round(2 * g.dpr);
  ctx.fillStyle = colors.warn;
  for (const { x0, x1 } of ticks) {
    const left = Math.max(0, Math.round(x0));
    const right = Math.min(g.plotW, Math.max(left + 2 * g.h, Math.round(x1)));
    if (right > left) ctx.fillRect(left, g.timeTop - tall, right - left, tall);
  }
}

/** A thin labelled line where finer history begins. */
export function paintSeam(ctx, scene, x, text) {
  const { g, colors, faces } = scene;
  const at = Math.round(x);
  if (at < 0 || at > g.plotW) return;
  ctx.fillStyle = colors.text3;
  ctx.fillRect(at, 0, g.h, g.timeTop);
  drawText(ctx, faces.axis, text, at + 6 * g.dpr, g.plotH - 12 * g.dpr);
}

/** Axis panels, borders and labels. Labels under the space `scene.tags` ([top, bottom] rows) are left out. */
export function paintAxes(ctx, scene) {
  const { g, colors, faces } = scene;
  ctx.fillStyle = colors.bg;
  ctx.fillRect(g.plotW, 0, g.w - g.plotW, g.hgt);
  ctx.fillRect(0, g.timeTop, g.w, g.hgt - g.timeTop);
  ctx.fillStyle = colors.line;
  ctx.fillRect(g.plotW, 0, g.h, g.timeTop);
  ctx.fillRect(0, g.timeTop, g.w, g.h);
  if (g.volumeH) ctx.fillRect(0, g.volumeTop - g.h, g.w, g.h);
  priceLabels(ctx, scene, faces.axis);
  volumeLabels(ctx, scene, faces.axis);
  timeLabels(ctx, scene);
}

function priceLabels(ctx, scene, held) {
  const { g, colors } = scene;
  ctx.fillStyle = colors.text2;
  const half = 7 * g.dpr;
  for (const { price, label } of scene.priceTicks) {
    const row = Math.round(scene.y(price));
    if (row < half || row > g.plotH - half) continue;
    if (scene.tags.some(([top, bottom]) => row + half > top && row - half < bottom)) continue;
    drawText(ctx, held, label, g.w - 12 * g.dpr, row, 'right');
  }
}

function volumeLabels(ctx, scene, held) {
  const { g, colors } = scene;
  if (!g.volumeH || !(scene.volumeMax > 0)) return;
  ctx.fillStyle = colors.text3;
  const tall = (g.volumeH - g.volumePad) / scene.volumeMax;
  for (const value of scene.volumeTicks) {
    const row = g.volumeTop + g.volumeH - value * tall;
    if (row < g.volumeTop + 7 * g.dpr || row > g.timeTop - 7 * g.dpr) continue;
    drawText(ctx, held, formatVolume(value), g.w - 12 * g.dpr, row, 'right');
  }
}

function timeLabels(ctx, scene) {
  const { g, view, s, colors, faces } = scene;
  const row = g.timeTop + (g.hgt - g.timeTop) / 2;
  const placed = [];
  // Larger units first: a day's name is never pushed out by a time of day.
  const ticks = [...scene.timeTicks].sort((a, b) => b.rank - a.rank || a.t - b.t);
  for (const { t, label, rank } of ticks) {
    const held = rank > scene.rankLow ? faces.strong : faces.axis;
    const x = g.plotW - (view.right - posOf(t, view.period)) * s;
    const half = textWidth(ctx, held, label) / 2;
    if (x - half < 4 * g.dpr || x + half > g.plotW - 2 * g.dpr) continue;
    const space = LABEL_GAP_PX * g.dpr;
    if (placed.some((other) => Math.abs(other.x - x) < other.half + half + space)) continue;
    placed.push({ x, half });
    ctx.fillStyle = rank > scene.rankLow ? colors.text : colors.text2;
    drawText(ctx, held, label, x, row, 'center');
  }
}
