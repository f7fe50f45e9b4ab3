// x and y transforms in device px, auto-range, and the ticks of the price axis.

import { digitsOf, formatPercent, formatPrice, multiples, niceStep } from './num.js';

const PAD_ABOVE = 0.1;
const PAD_BELOW = 0.07;
const FLAT_TICKS = 10;
const TICK_GAP_PX = 46;

/** Price → device px inside a pane of `height` px (row 0 on top), and back. */
export function yScale(view, height) {
  const log = view.log && view.lo > 0;
  const lo = log ? Math.log(view.lo) : view.lo;
  const hi = log ? Math.log(view.hi) : view.hi;
  const slope = height / (hi - lo);
  const flip = view.invert;
  const y = log
    ? (price) => (flip ? (Math.log(price) - lo) * slope : height - (Math.log(price) - lo) * slope)
    : (price) => (flip ? (price - lo) * slope : height - (price - lo) * slope);
  const price = (row) => {
    const value = lo + (flip ? row : height - row) / slope;
    return log ? Math.exp(value) : value;
  };
  return { y, price };
}

/** The range that shows [lo, hi] with 7 % below and 10 % above, at least ten ticks in all. */
export function padRange(view, lo, hi, tick) {
  if (!(hi >= lo)) return null;
  const least = FLAT_TICKS * (tick || Math.abs(hi) * 1e-6 || 1e-8);
  if (view.log && lo > 0) {
    let [a, b] = [Math.log(lo), Math.log(hi)];
    const span = Math.max(b - a, least / hi);
    const middle = (a + b) / 2;
    [a, b] = [Math.min(a, middle - span / 2), Math.max(b, middle + span / 2)];
    return [Math.exp(a - span * PAD_BELOW), Math.exp(b + span * PAD_ABOVE)];
  }
  if (hi === lo) return [lo - least, hi + least];
  const span = Math.max(hi - lo, least);
  const middle = (lo + hi) / 2;
  const [below, above] = view.invert ? [PAD_ABOVE, PAD_BELOW] : [PAD_BELOW, PAD_ABOVE];
  return [Math.min(lo, middle - span / 2) - span * below, Math.max(hi, middle + span / 2) + span * above];
}

/** Takes a wanted range: growth at once, shrinking only when `mayShrink` and by more than 10 %. */
export function fitRange(view, wanted, mayShrink) {
  const [lo, hi] = wanted;
  const wide = view.hi - view.lo;
  if (mayShrink === 'exact' || (mayShrink && hi - lo < wide * 0.9)) {
    const moved = view.lo !== lo || view.hi !== hi;
    [view.lo, view.hi] = [lo, hi];
    return moved;
  }
  if (lo >= view.lo && hi <= view.hi) return false;
  [view.lo, view.hi] = [Math.min(lo, view.lo), Math.max(hi, view.hi)];
  return true;
}

/** Ticks of the price axis: [{price, label}]; ≥ 46 css px apart, whole multiples of the price tick. */
export function priceTicks(view, cssHeight, tick, base) {
  const count = Math.max(1, cssHeight / TICK_GAP_PX);
  if (view.percent && base > 0) return percentTicks(view, count, base);
  if (view.log && view.lo > 0) return logTicks(view, count, tick, cssHeight);
  const step = niceStep((view.hi - view.lo) / count, tick);
  return labelled(multiples(view.lo, view.hi, step), tick, step);
}

function percentTicks(view, count, base) {
  const [lo, hi] = [view.lo / base - 1, view.hi / base - 1];
  return multiples(lo, hi, niceStep((hi - lo) / count))
    .map((share) => ({ price: base * (1 + share), label: formatPercent(share) }));
}

function logTicks(view, count, tick, cssHeight) {
  const [a, b] = [Math.log(view.lo), Math.log(view.hi)];
  if (b - a < Math.LN10) {
    const step = niceStep((view.hi - view.lo) / count, tick);
    return labelled(multiples(view.lo, view.hi, step), tick, step);
  }
  const prices = [];
  let last = -Infinity;
  for (let power = Math.floor(Math.log10(view.lo)); power <= Math.log10(view.hi); power += 1) {
    for (const factor of [1, 2, 5]) {
      const price = factor * 10 ** power;
      const y = ((Math.log(price) - a) / (b - a)) * cssHeight;
      if (price < view.lo || price > view.hi || y - last < TICK_GAP_PX * 0.7) continue;
      prices.push(price);
      last = y;
    }
  }
  return labelled(prices, tick, tick);
}

function labelled(prices, tick, step) {
  let digits = digitsOf(tick || step);
  // Fewer digits only if all labels agree, and only on steps far above the tick.
  if (tick > 0 && step >= 1000 && step >= tick * 1000) digits = 0;
  return prices.map((price) => ({ price, label: formatPrice(price, digits) }));
}

/** Ticks of the volume axis: at most three round figures below `max`. */
export function volumeTicks(max, cssHeight) {
  if (!(max > 0)) return [];
  const step = niceStep(max / Math.max(1, cssHeight / 60));
  return multiples(step, max * 0.999, step);
}
