// A scene: everything the painters of one frame need, worked out once from camera and store.
// No painting and no DOM here; the only thing written is what the caller asks for.

import { LADDER, MINUTE, blockOf, posOf, rungFor, slotOf, timeOf, volumeRungFor } from './ladder.js';
import { timeTicks, stepFor } from './cal.js';
import { leftPos } from './view.js';

const TIME_GAP_PX = 110;
const DAY = 86400;

/** Device-pixel geometry of a chart `cssW`×`cssH` with a price axis `axisW` css px wide. */
export function geometry(w, hgt, dpr, axisW, hasVolume, volumeShare) {
  const h = Math.max(1, Math.floor(dpr));
  const plotW = Math.max(0, w - Math.round(axisW * dpr));
  const timeTop = Math.max(0, hgt - Math.round(24 * dpr));
  const volumeH = hasVolume ? Math.round(timeTop * volumeShare) : 0;
  const volumeTop = timeTop - volumeH;
  return { w, hgt, dpr, h, plotW, timeTop, volumeH, volumeTop, volumePad: Math.round(6 * dpr),
    plotH: volumeTop - (volumeH ? h : 0) };
}

/** The base period whose array a rung comes from. */
export const baseOf = (rung) => (rung < MINUTE ? '1' : '60');

function spansOf(store, rung, t0, t1) {
  const spans = [];
  store.visit(rung, t0, t1, (b, i0, i1) => spans.push({ b, i0, i1 }));
  return spans;
}

/** The rows that stand in for [t0, t1) of a rung that is not held there: the next coarser that is. */
function fallback(store, rung, t0, t1, isDim) {
  for (const coarser of LADDER) {
    if (coarser <= rung) continue;
    const spans = spansOf(store, coarser, Math.ceil(t0 / coarser) * coarser, t1);
    if (spans.length) return [{ rung: coarser, spans, isDim }];
  }
  return [];
}

/** Parts that cover [t0, t1): own rows, and coarser ones where blocks are not here (yet). */
export function cover(store, rung, t0, t1) {
  const parts = [];
  const first = store.first[baseOf(rung)];
  let from = t0;
  if (rung < MINUTE && !(first <= t0)) {
    const seam = first === null || first === undefined ? t1 : Math.min(t1, first);
    const spans = spansOf(store, MINUTE, t0 - MINUTE, Math.floor(seam / MINUTE) * MINUTE);
    if (spans.length) parts.push({ rung: MINUTE, spans, isDim: true });
    else parts.push(...fallback(store, MINUTE, t0, seam, true));
    from = seam;
  }
  const spans = spansOf(store, rung, from - rung, t1);
  for (let k = blockOf(slotOf(from, rung)); k <= blockOf(slotOf(t1, rung)); k += 1) {
    if (store.mayHold(rung, k) && !store.cache.map.has(store.keyOf(rung, k))) {
      const [a, b] = [timeOf(k * 1024, rung), timeOf((k + 1) * 1024, rung)];
      parts.push(...fallback(store, rung, Math.max(a, from), Math.min(b, t1), false));
    }
  }
  parts.push({ rung, spans, isDim: false });
  return parts;
}

/** Highest and lowest price of parts and forming bar, with where they are; null without rows. */
export function extremesOf(parts, tail, t0, t1) {
  let high = null;
  let low = null;
  const see = (t, h, l, rung) => {
    if (!high || h > high.price) high = { t, price: h, rung };
    if (!low || l < low.price) low = { t, price: l, rung };
  };
  for (const { rung, spans } of parts) {
    for (const { b, i0, i1 } of spans) {
      let [hi, lo] = [-1, -1];
      for (let i = i0; i < i1; i += 1) {
        if (b.t[i] + rung <= t0 || b.h[i] !== b.h[i]) continue;
        if (hi < 0 || b.h[i] > b.h[hi]) hi = i;
        if (lo < 0 || b.l[i] < b.l[lo]) lo = i;
      }
      if (hi < 0) continue;
      see(b.t[hi], b.h[hi], b.l[hi], rung);
      see(b.t[lo], b.h[lo], b.l[lo], rung);
    }
  }
  if (tail && tail.t < t1 && tail.t + tail.rung > t0) see(tail.t, tail.h, tail.l, tail.rung);
  return high ? { high, low } : null;
}

export function volumeMaxOf(spans, tail) {
  let max = tail ? tail.v : 0;
  for (const { b, i0, i1 } of spans) for (let i = i0; i < i1; i += 1) if (b.v[i] > max) max = b.v[i];
  return max;
}

/** Stretches without data inside the plot, as device px: holes between bars, unloaded history, staleness. */
export function hatchRanges(scene, parts, market) {
  const { store, view, rung, t0, t1 } = scene;
  const x = scene.xAt;
  const out = [];
  const first = store.first[baseOf(rung)];
  const isLoading = market.load && (market.load.period < MINUTE) === (rung < MINUTE);
  if (isLoading && !(first <= t0)) out.push({ x0: 0, x1: first ? x(Math.min(first, t1)) : scene.g.plotW, kind: 'empty' });
  const own = parts[parts.length - 1];
  if (own && rung === view.period) {
    let previous = null;
    for (const { b, i0, i1 } of own.spans) {
      for (let i = i0; i < i1; i += 1) {
        if (previous !== null && b.t[i] - previous > rung * 1.5 && store.holds(rung, previous + rung)) {
          out.push({ x0: x(previous + rung), x1: x(b.t[i]), kind: 'empty' });
        }
        previous = b.t[i];
      }
    }
  }
  for (const gap of store.gaps) {
    if (!gap.filled && gap.kind !== 'closed' && gap.t1 > t0 && gap.t0 < t1) {
      out.push({ x0: x(gap.t0), x1: x(gap.t1), kind: 'warn' });
    }
  }
  if (market.isStale) {
    const tail = store.tail(rung);
    const end = tail ? tail.t + tail.rung : store.last[baseOf(rung)] + rung;
    if (Number.isFinite(end)) out.push({ x0: x(end), x1: scene.g.plotW, kind: 'warn' });
  }
  return out;
}

/** Amber ticks under stretches that were filled later. */
export function gapTicks(scene) {
  return scene.store.gaps.filter((gap) => gap.filled && gap.t1 > scene.t0 && gap.t0 < scene.t1)
    .map((gap) => ({ x0: scene.xAt(gap.t0), x1: scene.xAt(gap.t1), gap }));
}

/** The frame of a scene: level, times and time ticks; painters' y parts are added by the chart. */
export function frameOf(view, g, store, tz) {
  const s = view.spacing * g.dpr;
  const cssW = g.plotW / g.dpr;
  const rung = rungFor(view.period, s);
  const t0 = timeOf(leftPos(view, cssW), view.period);
  const t1 = timeOf(view.right, view.period);
  const perSecond = view.spacing / view.period;
  const step = stepFor(perSecond, TIME_GAP_PX, view.period);
  return { view, g, s, store, rung, t0, t1, tz, volumeRung: volumeRungFor(view.period, s),
    xAt: (t) => g.plotW - (view.right - posOf(t, view.period)) * s,
    timeTicks: g.plotW ? timeTicks(t0 - step.seconds, t1, perSecond, TIME_GAP_PX, tz, view.period) : [],
    rankLow: step.months >= 12 ? 3 : step.months ? 2 : step.seconds >= DAY ? 1 : 0 };
}

/** Block ranges a view needs, by priority: itself, half a screen either side, one level coarser. */
export function needsOf(scene) {
  const range = (rung, t0, t1) => ({ rung, k0: blockOf(slotOf(t0, rung)), k1: blockOf(slotOf(t1, rung)) });
  const { rung, volumeRung, t0, t1, store } = scene;
  const half = (t1 - t0) / 2;
  const levels = [[range(rung, t0, t1)], [range(rung, t0 - half, t0), range(rung, t1, t1 + half)], []];
  if (volumeRung !== rung) levels[0].push(range(volumeRung, t0, t1));
  if (rung < MINUTE && !(store.first['1'] <= t0)) levels[0].push(range(MINUTE, t0, Math.min(t1, store.first['1'] ?? t1)));
  const coarser = LADDER.find((r) => r > rung);
  if (coarser) levels[2].push(range(coarser, t0 - half, t1 + half));
  return levels;
}
