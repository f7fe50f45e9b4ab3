// The live edge: forming candle and its volume, bid and ask ticks, the last-price label, and the
// dotted line. One transparent canvas from the last bar to the window's right edge; when that would
// be wider than a quarter of the plot it is split in a candle and a label canvas.

import { formatCountdown, formatPrice, formatWait } from './num.js';
import { posOf } from './ladder.js';
import { paintBars } from './paint_bars.js';
import { paintVolume } from './paint_volume.js';
import { drawText } from './text.js';

const QUARTER = 0.25;
const TAG_CSS = 34;
const TICK_CSS = 16;
const STAGED_CSS = 10;

/** A TAIL row as a one-row block, so that the bar painters draw it. */
function spanOf(row) {
  const b = { t: [row.t], o: [row.o], h: [row.h], l: [row.l], c: [row.c], v: [row.v], n: 1 };
  return [{ b, i0: 0, i1: 1 }];
}

/** The label gives way to the tag of a staged order. */
function besideStaged({ g, stagedRow }, top, tall) {
  const half = Math.round(STAGED_CSS * g.dpr);
  const isNear = Number.isFinite(stagedRow) && stagedRow + half > top && stagedRow - half < top + tall;
  if (!isNear) return [top, top + tall];
  const above = stagedRow - half - tall;
  const at = stagedRow >= top + tall / 2 && above >= 0 ? above : stagedRow + half;
  return [at, at + tall];
}

/** Rows [top, bottom] of the last-price label in device px, or null when it is off the pane. */
export function labelRows(scene) {
  const last = scene.store.l1?.last;
  if (!Number.isFinite(last)) return null;
  const row = Math.round(scene.y(last));
  if (row < -scene.g.dpr || row > scene.g.plotH + scene.g.dpr) return null;
  const tall = Math.round(TAG_CSS * scene.g.dpr);
  const top = Math.min(Math.max(0, row - Math.round(tall / 2) + Math.round(7 * scene.g.dpr)), scene.g.plotH - tall);
  return besideStaged(scene, top, tall);
}

export class Edge {
  constructor(candle, label, line) {
    this.canvases = [candle, label];
    this.line = line;
    this.key = '';
    this.box = [null, null];
  }

  forget() {
    this.key = '';
  }

  /** Paints what moved; false when nothing shown did. */
  paint(scene, seconds) {
    const { store, view, g, s } = scene;
    const bar = store.tail(scene.rung);
    const volume = store.tail(scene.volumeRung);
    const l1 = store.l1;
    const words = this.words(scene, seconds);
    const key = [scene.stamp, bar?.t, bar?.o, bar?.h, bar?.l, bar?.c, volume?.v, scene.volumeMax, l1?.last,
      l1?.bid, l1?.ask, words, scene.isStale, labelRows(scene)].join();
    if (key === this.key) return false;
    this.key = key;
    const width = bar ? (s * scene.rung) / view.period : 0;
    const x = bar ? Math.floor(g.plotW - (view.right - posOf(bar.t, view.period)) * s) : 0;
    const wide = volume ? Math.max(width, (s * scene.volumeRung) / view.period) : width;
    const isShown = Boolean(bar) && x < g.plotW && x + wide > 0;
    const labelX = g.plotW - Math.round(TICK_CSS * g.dpr);
    const left = volume ? Math.min(x, Math.floor(g.plotW - (view.right - posOf(volume.t, view.period)) * s)) : x;
    const isOne = isShown && g.plotW - left <= g.plotW * QUARTER;
    const from = Math.max(0, left - 1);
    const boxes = isOne
      ? [{ x: from, w: g.w - from }, null]
      : [isShown ? { x: from, w: Math.min(g.plotW, Math.ceil(x + wide) + 2) - from } : null, { x: labelX, w: g.w - labelX }];
    boxes.forEach((box, i) => this.place(i, box, g));
    if (isShown) this.paintBar(this.context(0), scene, bar, volume);
    this.paintLabel(this.context(isOne ? 0 : 1), scene, bar, words);
    this.moveLine(scene, bar);
    return true;
  }

  words(scene, seconds) {
    if (scene.isStale) return `${formatWait(scene.age)} old`;
    const bar = scene.store.tail(scene.view.period);
    return bar ? formatCountdown(bar.t + scene.view.period - seconds) : '';
  }

  place(i, box, g) {
    const canvas = this.canvases[i];
    const held = this.box[i];
    canvas.classList.toggle('hidden', !box);
    this.box[i] = box;
    if (!box) return;
    if (canvas.width !== box.w || canvas.height !== g.timeTop) {
      canvas.width = box.w;
      canvas.height = g.timeTop;
      canvas.style.width = `${box.w / g.dpr}px`;
      canvas.style.height = `${g.timeTop / g.dpr}px`;
    }
    if (!held || held.x !== box.x || held.dpr !== g.dpr) canvas.style.left = `${box.x / g.dpr}px`;
    box.dpr = g.dpr;
    const ctx = this.context(i);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, box.w, g.timeTop);
    ctx.setTransform(1, 0, 0, 1, -box.x, 0);
  }

  context(i) {
    return this.canvases[i].getContext('2d');
  }

  paintBar(ctx, scene, bar, volume) {
    const { g } = scene;
    ctx.save();
    ctx.beginPath();
    ctx.rect(0, 0, g.plotW, g.plotH);
    ctx.clip();
    paintBars(ctx, scene, { rung: scene.rung, spans: spanOf(bar), isDim: false });
    ctx.restore();
    if (!volume || !g.volumeH) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(0, g.volumeTop, g.plotW, g.volumeH);
    ctx.clip();
    paintVolume(ctx, scene, { rung: scene.volumeRung, spans: spanOf(volume) });
    ctx.restore();
  }

  paintLabel(ctx, scene, bar, words) {
    const { g, colors, faces, store } = scene;
    const rows = labelRows(scene);
    const { bid, ask, last } = store.l1 || {};
    const ticks = [[ask, scene.isStale ? colors.pending : colors.down], [bid, scene.isStale ? colors.pending : colors.up]];
    for (const [price, color] of ticks) {
      const row = Math.round(scene.y(price));
      if (!(row >= 0 && row < g.plotH)) continue;
      ctx.fillStyle = color;
      ctx.fillRect(g.plotW - Math.round(TICK_CSS * g.dpr), row, Math.round(TICK_CSS * g.dpr), g.h);
    }
    if (!rows) return;
    ctx.fillStyle = scene.isStale ? colors.pending : toneOf(scene, bar);
    ctx.fillRect(g.plotW, rows[0], g.w - g.plotW, rows[1] - rows[0]);
    ctx.fillStyle = colors.ink;
    const right = g.w - 12 * g.dpr;
    drawText(ctx, faces.price, formatPrice(last, scene.digits), right, rows[0] + 10.5 * g.dpr, 'right');
    drawText(ctx, faces.tag, words, right, rows[0] + 24.5 * g.dpr, 'right');
  }

  moveLine(scene, bar) {
    const { g, store, colors } = scene;
    const row = Math.round(scene.y(store.l1?.last));
    const isShown = row >= 0 && row < g.plotH;
    this.line.classList.toggle('hidden', !isShown);
    if (!isShown) return;
    this.line.style.width = `${g.plotW / g.dpr}px`;
    this.line.style.color = scene.isStale ? colors.text2 : toneOf(scene, bar);
    this.line.style.transform = `translateY(${row / g.dpr}px)`;
  }
}

/** The colour of the last price: the forming bar's direction. */
export function toneOf(scene, bar) {
  const row = scene.store.tail(scene.view.period) || bar;
  return !row || row.c >= row.o ? scene.colors.up : scene.colors.down;
}
