// The base picture of one chart: makes its scene (levels, ranges, ticks) and paints it in order.
// Called only when the view, size, theme, bars behind the edge or y range changed.

import * as V from './view.js';
import { clockText } from './cal.js';
import { labelRows } from './live.js';
import { formatPrice } from './num.js';
import { paintAxes, paintGapTicks, paintGrid, paintHatch, paintSeam } from './paint_axes.js';
import { paintBars } from './paint_bars.js';
import { paintExtremes, paintOverlay } from './paint_lines.js';
import { orderMarks, paintOrders } from './paint_orders.js';
import { paintVolume } from './paint_volume.js';
import { fitRange, padRange, priceTicks, volumeTicks, yScale } from './scale.js';
import { baseOf, cover, extremesOf, frameOf, gapTicks, geometry, hatchRanges, volumeMaxOf } from './scene.js';
import { face, textWidth } from './text.js';

const AXIS_PAD_CSS = 24;
const OVERLAYS = 6;

/** Paints the base canvas of `chart` and returns the scene it shows; the axis may grow for it. */
export function paintPicture(chart) {
  let scene = makeScene(chart);
  if (scene.store) {
    fill(chart, scene);
    const axisW = axisWidth(chart, scene);
    if (axisW > chart.axisW) {
      chart.axisW = axisW;
      if (chart.view.follow) V.toNow(chart.view, chart.cssW, chart.lastSlot);
      scene = makeScene(chart);
      fill(chart, scene);
    }
    const label = labelRows(scene);
    if (label) scene.tags.push(label);
    scene.tags.push(...chart.lines.tagRows(scene));
    scene.marks = orderMarks(scene, chart.market.book);
  }
  draw(chart, scene);
  return scene;
}

function makeScene(chart) {
  const { size, view, page, market, ctx } = chart;
  const { theme } = page;
  const hasVolume = market?.info ? market.info.has_vlm : true;
  const g = geometry(size.w, size.hgt, size.dpr, chart.axisW, hasVolume, chart.volumeShare);
  const of = (css, weight) => face(ctx, theme.font, css, size.dpr, weight);
  const faces = { axis: of(11), strong: of(11, 600), price: of(12, 600), tag: of(11) };
  const common = { colors: theme.colors, faces, grid: chart.grid, priceTicks: [], tags: [], volumeTicks: [], volumeMax: 0,
    parts: [], marks: [], volumeSpans: [], overlays: [], extremes: null, digits: market?.digits ?? 2,
    isStale: Boolean(market?.isStale), age: market?.age ?? 0 };
  if (!market?.info || !view.placed) return { ...common, g, view, s: view.spacing * g.dpr, timeTicks: [], store: null };
  V.bound(view, chart.cssW, chart.firstSlot, chart.lastSlot);
  return Object.assign(frameOf(view, g, market.store, chart.tz), common);
}

/** Works out rows, y range and ticks. */
function fill(chart, scene) {
  const { store, view, rung, volumeRung, t0, t1, g } = scene;
  scene.parts = cover(store, rung, t0, t1);
  scene.extremes = extremesOf(scene.parts, store.tail(rung), t0, t1);
  const volumeParts = g.volumeH ? cover(store, volumeRung, t0, t1) : [];
  scene.volumeSpans = volumeParts.length ? volumeParts[volumeParts.length - 1].spans : [];
  scene.volumeMax = volumeMaxOf(scene.volumeSpans, store.tail(volumeRung));
  scene.base = firstClose(scene.parts);
  scene.overlays = chart.overlays.map((market, i) => overlayOf(market, scene, i));
  if (view.autoY && scene.extremes) autoRange(chart, scene);
  if (view.log && !(view.lo > 0)) view.log = false;
  const { y, price } = yScale(view, g.plotH);
  Object.assign(scene, { y, price, volumeTicks: volumeTicks(scene.volumeMax, (g.volumeH - g.volumePad) / g.dpr) });
  const hasAxis = scene.extremes || !view.autoY;
  scene.priceTicks = hasAxis ? priceTicks(view, g.plotH / g.dpr, chart.market.tick, scene.base) : [];
}

function autoRange(chart, scene) {
  let { high: { price: hi }, low: { price: lo } } = scene.extremes;
  for (const { extremes, base } of scene.overlays) {
    if (!extremes || !base) continue;
    hi = Math.max(hi, (extremes.high.price / base) * scene.base);
    lo = Math.min(lo, (extremes.low.price / base) * scene.base);
  }
  // The price under the pointer must not move while an order is staged or dragged.
  if (chart.page.orders.freezes(chart)) return;
  const wanted = padRange(scene.view, lo, hi, chart.market.tick);
  if (wanted) fitRange(scene.view, wanted, chart.fit === 'exact' ? 'exact' : chart.fit === 'bar');
  chart.fit = 'grow';
}

function firstClose(parts) {
  for (const { spans } of parts) if (spans.length) return spans[0].b.c[spans[0].i0];
  return NaN;
}

function overlayOf(market, { rung, t0, t1, colors }, i) {
  const parts = market.info ? cover(market.store, rung, t0, t1) : [{ rung, spans: [] }];
  const own = parts[parts.length - 1];
  return { market, rung: own.rung, spans: own.spans, base: firstClose([own]), color: colors[`overlay${1 + (i % OVERLAYS)}`],
    extremes: extremesOf([own], market.store.tail(own.rung), t0, t1) };
}

function draw(chart, scene) {
  const { ctx } = chart;
  const { g, store } = scene;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  paintGrid(ctx, scene);
  if (store) {
    paintHatch(ctx, scene, hatchRanges(scene, scene.parts, chart.market));
    clipped(ctx, [0, 0, g.plotW, g.plotH], () => {
      for (const part of scene.parts) paintBars(ctx, scene, part);
      for (const overlay of scene.overlays) if (overlay.base) paintOverlay(ctx, scene, overlay);
      paintExtremes(ctx, scene);
      paintOrders(ctx, scene);
    });
    if (g.volumeH) {
      clipped(ctx, [0, g.volumeTop, g.plotW, g.volumeH], () => {
        paintVolume(ctx, scene, { rung: scene.volumeRung, spans: scene.volumeSpans });
      });
    }
    const first = store.first[baseOf(scene.rung)];
    if (scene.rung < 60 && first > scene.t0 && first < scene.t1) {
      paintSeam(ctx, scene, scene.xAt(first), `1 s from ${clockText(first, chart.tz)}`);
    }
    paintGapTicks(ctx, scene, gapTicks(scene));
  }
  paintAxes(ctx, scene);
}

function clipped(ctx, box, paint) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(...box);
  ctx.clip();
  paint();
  ctx.restore();
}

/** Css px the price axis needs for its widest label. */
function axisWidth(chart, scene) {
  const { ctx } = chart;
  let widest = textWidth(ctx, scene.faces.price, formatPrice(chart.store.l1?.last ?? NaN, scene.digits));
  for (const { label } of scene.priceTicks) widest = Math.max(widest, textWidth(ctx, scene.faces.axis, label));
  return Math.ceil(widest / scene.g.dpr) + AXIS_PAD_CSS;
}
