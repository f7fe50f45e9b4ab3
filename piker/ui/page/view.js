// The camera: right edge, spacing, y range, follow state. Pure functions on a plain object.
//
// `right` is the place (in slots of the period, fractional) at the plot's right edge, `spacing` the
// css px of one slot. Nothing here knows pixels of the canvas or prices of the market.

import { clamp } from './num.js';
import { posOf, timeOf } from './ladder.js';

export const OFFSET_SLOTS = 6;
const DEFAULT_BARS = 224;
const DEFAULT_SPACING = 8;
const PHONE_SPACING = 6;
const PHONE_WIDTH = 500;
const BARS_MIN = 6;
const SPACING_MIN = 2e-5;
const SPACING_MAX = 400;
const KEEP_SLOTS = 2;
const Y_ZOOM_OUT_MAX = 1000;

export const makeView = (period = 60) => ({ period, right: 0, spacing: DEFAULT_SPACING, lo: 0, hi: 1, autoY: true,
  follow: true, offset: OFFSET_SLOTS, log: false, percent: false, invert: false, placed: false });

/** The spacing that shows 224 bars, or what fits at 8 px, at least 6 bars. */
export function defaultSpacing(width) {
  const spacing = width < PHONE_WIDTH ? PHONE_SPACING : DEFAULT_SPACING;
  const bars = clamp(Math.floor(width / spacing), BARS_MIN, DEFAULT_BARS);
  return Math.max(1, width / bars);
}

export const xOf = (view, width, pos) => width - (view.right - pos) * view.spacing;
export const posAt = (view, width, x) => view.right - (width - x) / view.spacing;
export const leftPos = (view, width) => view.right - width / view.spacing;

/** Keeps at least two slots of [first, last] on screen. */
export function bound(view, width, first, last) {
  const shown = width / view.spacing;
  if (!(last >= first)) return;
  const lo = Math.min(first + KEEP_SLOTS, last + 1);
  const hi = Math.max(last - 1 + shown - KEEP_SLOTS, lo);
  view.right = clamp(view.right, lo, hi);
}

export function panBy(view, dx) {
  view.right -= dx / view.spacing;
}

/** Zooms x by `factor`, keeping the place at css px `x` where it is. */
export function zoomAt(view, width, x, factor) {
  const pos = posAt(view, width, x);
  view.spacing = clamp(view.spacing * factor, SPACING_MIN, Math.min(SPACING_MAX, width / 3));
  view.right = pos + (width - x) / view.spacing;
}

/** Ends a gesture: following is having the last bar in view; its distance to the edge is kept. */
export function settle(view, width, lastSlot) {
  const x = xOf(view, width, lastSlot + 0.5);
  view.follow = x >= 0 && x <= width;
  if (view.follow) view.offset = Math.max(0, view.right - lastSlot - 1);
}

/** A bar began: while following the view moves on by exactly the new slots. */
export function advance(view, lastSlot) {
  if (view.follow) view.right = lastSlot + 1 + view.offset;
}

/** Back to now, with the trader's own distance to the edge. */
export function toNow(view, width, lastSlot) {
  view.follow = true;
  view.offset = Math.min(view.offset, (width / view.spacing) * 0.9);
  view.right = lastSlot + 1 + view.offset;
}

export function reset(view, width, lastSlot) {
  view.spacing = defaultSpacing(width);
  view.offset = OFFSET_SLOTS;
  view.autoY = true;
  view.placed = true;
  toNow(view, width, lastSlot);
}

/**
 * Another period: the right edge keeps its time and the spacing stays, but is at least one px: a
 * view of a year in minutes would be two px of weeks.
 */
export function changePeriod(view, period) {
  const time = timeOf(view.right, view.period);
  view.period = period;
  view.spacing = Math.max(view.spacing, 1);
  view.right = posOf(time, period);
}

const toY = (view, price) => (view.log ? Math.log(price) : price);
const fromY = (view, value) => (view.log ? Math.exp(value) : value);

/** Moves y by `share` of the range (positive: up) and makes the axis manual. */
export function panY(view, share) {
  const [lo, hi] = [toY(view, view.lo), toY(view, view.hi)];
  const step = (hi - lo) * share * (view.invert ? -1 : 1);
  setRange(view, fromY(view, lo + step), fromY(view, hi + step));
  view.autoY = false;
}

/** Scales y by `factor` (> 1: more prices) about the share `at` from the bottom; the axis is manual. */
export function zoomY(view, factor, at, dataLo, dataHi) {
  const [lo, hi] = [toY(view, view.lo), toY(view, view.hi)];
  const share = view.invert ? 1 - at : at;
  const pivot = lo + (hi - lo) * share;
  const span = (hi - lo) * factor;
  const data = Math.abs(toY(view, dataHi) - toY(view, dataLo)) || Math.abs(hi - lo);
  const bounded = clamp(span, data * 1e-4, data * Y_ZOOM_OUT_MAX);
  setRange(view, fromY(view, pivot - bounded * share), fromY(view, pivot + bounded * (1 - share)));
  view.autoY = false;
}

export function setRange(view, lo, hi) {
  if (!Number.isFinite(lo) || !Number.isFinite(hi) || !(hi > lo)) return;
  view.lo = lo;
  view.hi = hi;
}

/** A flick: px per ms that decays with a time constant of 325 ms; `step` returns the px to move. */
export class Inertia {
  constructor(velocity, now, tau = 325) {
    this.velocity = velocity;
    this.tau = tau;
    this.start = this.last = now;
    this.travelled = 0;
  }

  step(now) {
    const total = this.velocity * this.tau * (1 - Math.exp(-(now - this.start) / this.tau));
    const dx = total - this.travelled;
    this.travelled = total;
    this.last = now;
    return dx;
  }

  get isOver() {
    return Math.abs(this.velocity) * Math.exp(-(this.last - this.start) / this.tau) < 0.01;
  }
}
