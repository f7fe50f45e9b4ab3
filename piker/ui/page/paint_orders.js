// What happened on the bars: an arrow under (bought) or over (sold) the bar of each fill, and one
// pointing right where an alert fired. Several in one place are one arrow with a count.

import { clockText } from './cal.js';
import { formatLevel, formatSize } from './order_words.js';
import { drawText } from './text.js';

const MARKS_MAX = 200;
const CLUSTER_CSS = 9;
const ARROW_CSS = 4;
const GAP_CSS = 5;
const NEAR_CSS = 12;
const WORDS_MAX = 12;

/** Arrows of the view: [{x, y, side, fills, alert}], at most 200. */
export function orderMarks(scene, book) {
  const { t0, t1, g, rung, s, view } = scene;
  const shift = (s * rung) / view.period / 2;
  const wide = Math.max(CLUSTER_CSS * g.dpr, 1);
  const marks = new Map();
  for (const fill of book.fills) {
    if (!(fill.t >= t0 - rung && fill.t < t1 + rung)) continue;
    const slot = Math.floor(fill.t / rung) * rung;
    const x = scene.xAt(slot) + shift;
    const key = `${fill.action}:${Math.floor(x / wide)}`;
    const held = marks.get(key);
    if (held) held.fills.push(fill);
    else marks.set(key, { x: Math.round(x), side: fill.action, fills: [fill], t: slot });
  }
  const placed = [...marks.values()].map((mark) => place(scene, mark)).filter(({ y }) => y > 0 && y < g.plotH);
  for (const alert of book.alerts) {
    if (alert.t < t0 || alert.t >= t1) continue;
    const y = Math.round(scene.y(Number(alert.price)));
    if (y > 0 && y < g.plotH) placed.push({ x: Math.round(scene.xAt(alert.t)), y, side: 'alert', fills: [], alert });
  }
  return placed.slice(-MARKS_MAX);
}

/** Under the low or over the high of the bar, so that no arrow covers a candle. */
function place(scene, mark) {
  const { g, rung, store, view } = scene;
  const bar = store.barAt(rung, mark.t);
  const isBelow = (mark.side === 'buy') !== view.invert;
  const edge = bar ? (mark.side === 'buy' ? bar.l : bar.h) : Number(mark.fills[0].price);
  const y = Math.round(scene.y(edge) + (isBelow ? GAP_CSS : -GAP_CSS) * g.dpr);
  return { ...mark, y, isBelow };
}

/** Paints `scene.marks`. */
export function paintOrders(ctx, scene) {
  const { g, colors, faces } = scene;
  const a = Math.round(ARROW_CSS * g.dpr);
  for (const { x, y, side, isBelow, fills } of scene.marks) {
    ctx.fillStyle = colors[side];
    ctx.beginPath();
    if (side === 'alert') {
      ctx.moveTo(x, y - a);
      ctx.lineTo(x + 2 * a, y);
      ctx.lineTo(x, y + a);
    } else {
      const foot = isBelow ? y + 1.6 * a : y - 1.6 * a;
      ctx.moveTo(x, y);
      ctx.lineTo(x + a, foot);
      ctx.lineTo(x - a, foot);
    }
    ctx.fill();
    if (fills.length > 1) drawText(ctx, faces.tag, String(fills.length), x, y + (isBelow ? 14 : -14) * g.dpr, 'center');
  }
}

/** What happened at the arrow near device px (x, y), a line each; '' without one. */
export function markWords(scene, x, y, tz) {
  const near = NEAR_CSS * scene.g.dpr;
  const mark = scene.marks.find((one) => Math.hypot(one.x - x, one.y - y) < near);
  if (!mark) return '';
  if (mark.alert) return `alert at ${formatLevel(mark.alert.price, scene.digits)}, ${clockText(mark.alert.t, tz, true)}`;
  return mark.fills.slice(0, WORDS_MAX).map((fill) => {
    const fee = fill.fee ? `, fee ${formatSize(fill.fee)} ${fill.fee_asset.toUpperCase()}` : '';
    return `${fill.action} ${formatSize(fill.size)} at ${formatLevel(fill.price, scene.digits)}, ${clockText(fill.t, tz, true)}${fee}, ${fill.account}`;
  }).join('\n');
}
