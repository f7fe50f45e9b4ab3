// One chart: its market, its camera, its canvases, and what a paint of it does.
// Gestures and keys reach it through the intents of intents.js; it holds no truth about the market.

import * as V from './view.js';
import { LADDER, posOf, slotOf } from './ladder.js';
import { knownZone } from './cal.js';
import { Cross } from './cross.js';
import { Edge, labelRows } from './live.js';
import { BASE, CROSS, EDGE, WORDS } from './loop.js';
import { el, setText, show } from './dom.js';
import { face, forgetFaces, textWidth } from './text.js';
import { formatPrice, formatVolume } from './num.js';
import { baseOf, cover, extremesOf, frameOf, gapTicks, geometry, hatchRanges, needsOf, volumeMaxOf } from './scene.js';
import { fitRange, padRange, priceTicks, volumeTicks, yScale } from './scale.js';
import { paintAxes, paintGapTicks, paintGrid, paintHatch, paintSeam } from './paint_axes.js';
import { paintBars } from './paint_bars.js';
import { paintExtremes, paintOverlay } from './paint_lines.js';
import { paintVolume } from './paint_volume.js';
import { Cards } from './cards.js';
import { clockText } from './cal.js';

const AXIS_CSS_MIN = 64;
const AXIS_PAD_CSS = 24;
export const VOLUME_SHARE = 0.17;

export class Chart {
  /** `page` = {loop, theme, link, prefs, onWords(chart)}. */
  constructor(page, period) {
    this.page = page;
    this.view = V.makeView(period);
    this.market = null;
    this.overlays = [];
    this.grid = true;
    this.volumeShare = VOLUME_SHARE;
    this.axisW = AXIS_CSS_MIN;
    this.size = null;
    this.scene = null;
    this.fit = 'exact';
    this.seen = 0;
    this.stamp = 0;
    this.listen = (kind, data, market) => this.heard(kind, data, market);
    this.build();
    this.cross = new Cross(this);
    this.cards = new Cards(this);
  }

  build() {
    this.el = el('section', 'chart');
    this.el.tabIndex = 0;
    this.el.setAttribute('aria-label', 'Chart');
    this.base = el('canvas', 'base');
    const [candle, label, line] = [el('canvas', 'edge hidden'), el('canvas', 'edge hidden'), el('div', 'still last-line hidden')];
    this.volumeLabel = el('div', 'still volume-label hidden');
    this.el.append(this.base, line, candle, label, this.volumeLabel);
    this.edge = new Edge(candle, label, line);
    this.ctx = this.base.getContext('2d', { alpha: false });
  }

  get tz() {
    const zone = this.page.prefs.timezone || 'market';
    return knownZone(zone === 'market' ? this.market?.info?.tz || 'UTC' : zone);
  }

  get store() {
    return this.market?.store || null;
  }

  get cssW() {
    return this.size ? Math.max(0, this.size.w / this.size.dpr - this.axisW) : 0;
  }

  /** Slot of the newest bar, or of now when there is none yet. */
  get lastSlot() {
    const { period } = this.view;
    const last = this.store?.tail(period)?.t ?? this.store?.last[baseOf(period)];
    return slotOf(last ?? this.page.link.now(), period);
  }

  get firstSlot() {
    const first = this.store?.first['60'] ?? this.store?.first[baseOf(this.view.period)];
    return first === undefined || first === null ? this.lastSlot : slotOf(first, this.view.period);
  }

  setMarket(market) {
    if (this.market === market) return;
    this.release(this.market);
    this.market = market;
    market.listeners.add(this.listen);
    this.axisW = AXIS_CSS_MIN;
    this.place();
    this.page.onWords(this);
  }

  release(market) {
    if (!market) return;
    market.listeners.delete(this.listen);
    market.release(this);
  }

  /** Puts the camera on a market whose bars are known; spacing and follow are kept. */
  place() {
    if (this.market?.info && this.cssW > 0) {
      if (!this.view.placed) V.reset(this.view, this.cssW, this.lastSlot);
      else if (this.view.follow) V.toNow(this.view, this.cssW, this.lastSlot);
    }
    this.refit();
  }

  addOverlay(market) {
    if (market === this.market || this.overlays.includes(market)) return;
    market.listeners.add(this.listen);
    this.overlays.push(market);
    this.view.percent = true;
    this.refit();
  }

  dropOverlay(market) {
    this.release(market);
    this.overlays = this.overlays.filter((other) => other !== market);
    if (!this.overlays.length) this.view.percent = false;
    this.refit();
  }

  /** Everything about the picture changed: the y range follows exactly. */
  refit() {
    this.fit = 'exact';
    this.page.loop.dirty(this, BASE);
  }

  heard(kind, data, market) {
    const { loop } = this.page;
    if (kind === 'market') this.place();
    else if (kind === 'tail' && market === this.market) this.heardTail(data);
    else if (kind !== 'load' || this.hadLoad || market.load) this.refit();
    this.hadLoad = Boolean(market.load);
    if (market === this.market && kind !== 'tail') {
      this.cards.update();
      this.page.onWords(this);
    }
    loop.dirty(this, WORDS);
  }

  heardTail({ rolled }) {
    const { loop, onTail } = this.page;
    const bar = this.store.tail(this.scene?.rung);
    const scene = this.scene;
    if (!this.view.placed) this.place();
    if (rolled) this.rollOver();
    const high = scene?.extremes?.high.price;
    const low = scene?.extremes?.low.price;
    const grows = bar && scene && (bar.h > high || bar.l < low || high === undefined);
    const volume = scene && this.store.tail(scene.volumeRung);
    loop.dirty(this, rolled || grows || (volume && volume.v > scene.volumeMax) ? BASE | EDGE : EDGE);
    onTail(this);
  }

  /** A bar began: following moves on by its slots, else it is counted. */
  rollOver() {
    const last = this.lastSlot;
    if (this.view.follow && !this.holding) V.advance(this.view, last);
    else if (this.seen && last > this.seen) this.unseen = (this.unseen || 0) + last - this.seen;
    this.seen = last;
    if (this.fit !== 'exact') this.fit = 'bar';
  }

  resize(w, hgt, dpr) {
    if (this.size && this.size.w === w && this.size.hgt === hgt && this.size.dpr === dpr) return;
    if (this.size && this.size.dpr !== dpr) forgetFaces();
    const grew = this.size && this.view.placed && !this.view.follow;
    this.size = { w, hgt, dpr };
    [this.base.width, this.base.height] = [w, hgt];
    if (!grew) this.place();
    this.fit = 'exact';
    this.paint(BASE);
  }

  paint(bits) {
    if (!this.size || this.size.w < 2 || this.size.hgt < 2) return false;
    let drew = false;
    if (bits & BASE || !this.scene) {
      this.paintBase();
      drew = true;
    }
    if (bits & (BASE | EDGE)) drew = this.paintEdge() || drew;
    if (bits & (BASE | CROSS | EDGE)) this.cross.update();
    if (bits & (BASE | WORDS)) this.words();
    return drew;
  }

  paintEdge() {
    if (!this.store) return false;
    return this.edge.paint(this.scene, this.page.link.now());
  }

  makeScene() {
    const { size, view, page } = this;
    const market = this.market;
    const hasVolume = market?.info ? market.info.has_vlm : true;
    const g = geometry(size.w, size.hgt, size.dpr, this.axisW, hasVolume, this.volumeShare);
    const family = page.theme.font;
    const faces = { axis: face(this.ctx, family, 11, size.dpr), strong: face(this.ctx, family, 11, size.dpr, 600),
      price: face(this.ctx, family, 12, size.dpr, 600), tag: face(this.ctx, family, 11, size.dpr) };
    const common = { colors: page.theme.colors, faces, grid: this.grid, priceTicks: [], tags: [], volumeTicks: [], volumeMax: 0,
      parts: [], volumeSpans: [], overlays: [], extremes: null, digits: market?.digits ?? 2, isStale: Boolean(market?.isStale),
      age: market?.age ?? 0 };
    if (!market?.info || !view.placed) return { ...common, g, view, s: view.spacing * g.dpr, timeTicks: [], store: null };
    V.bound(view, this.cssW, this.firstSlot, this.lastSlot);
    return Object.assign(frameOf(view, g, market.store, this.tz), common);
  }

  fill(scene) {
    const { store, view, rung, volumeRung, t0, t1, g } = scene;
    scene.parts = cover(store, rung, t0, t1);
    scene.extremes = extremesOf(scene.parts, store.tail(rung), t0, t1);
    const volumeParts = g.volumeH ? cover(store, volumeRung, t0, t1) : [];
    const finest = volumeParts[volumeParts.length - 1];
    scene.volumeSpans = finest ? finest.spans : [];
    scene.volumeMax = volumeMaxOf(scene.volumeSpans, store.tail(volumeRung));
    scene.base = this.firstClose(scene.parts);
    scene.overlays = this.overlays.map((market, i) => this.overlayOf(market, scene, i));
    if (view.autoY && scene.extremes) this.autoRange(scene);
    if (view.log && !(view.lo > 0)) view.log = false;
    const { y, price } = yScale(view, g.plotH);
    Object.assign(scene, { y, price, volumeTicks: volumeTicks(scene.volumeMax, (g.volumeH - g.volumePad) / g.dpr) });
    scene.priceTicks = scene.extremes || !view.autoY ? priceTicks(view, g.plotH / g.dpr, this.market.tick, scene.base) : [];
  }

  autoRange(scene) {
    let { high: { price: hi }, low: { price: lo } } = scene.extremes;
    for (const overlay of scene.overlays) {
      if (!overlay.extremes || !overlay.base) continue;
      hi = Math.max(hi, (overlay.extremes.high.price / overlay.base) * scene.base);
      lo = Math.min(lo, (overlay.extremes.low.price / overlay.base) * scene.base);
    }
    const wanted = padRange(this.view, lo, hi, this.market.tick);
    if (wanted) fitRange(this.view, wanted, this.fit === 'exact' ? 'exact' : this.fit === 'bar');
    this.fit = 'grow';
  }

  firstClose(parts) {
    for (const { spans } of parts) if (spans.length) return spans[0].b.c[spans[0].i0];
    return NaN;
  }

  overlayOf(market, scene, i) {
    const parts = market.info ? cover(market.store, scene.rung, scene.t0, scene.t1) : [{ rung: scene.rung, spans: [] }];
    const own = parts[parts.length - 1];
    return { market, rung: own.rung, spans: own.spans, base: this.firstClose([own]), color: scene.colors[`overlay${1 + (i % 6)}`],
      extremes: extremesOf([own], market.store.tail(own.rung), scene.t0, scene.t1) };
  }

  paintBase() {
    let scene = this.makeScene();
    if (scene.store) {
      this.fill(scene);
      const axisW = this.axisWidth(scene);
      if (axisW > this.axisW) {
        this.axisW = axisW;
        if (this.view.follow) V.toNow(this.view, this.cssW, this.lastSlot);
        scene = this.makeScene();
        this.fill(scene);
      }
      const label = labelRows(scene);
      if (label) scene.tags.push(label);
    }
    this.stamp += 1;
    scene.stamp = this.stamp;
    this.scene = scene;
    this.draw(scene);
    this.edge.forget();
    if (scene.store) this.tellNeeds(scene);
  }

  draw(scene) {
    const { ctx } = this;
    const { g, store } = scene;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    paintGrid(ctx, scene);
    if (store) {
      paintHatch(ctx, scene, hatchRanges(scene, scene.parts, this.market));
      this.clipped(0, 0, g.plotW, g.plotH, () => {
        for (const overlay of scene.overlays) if (overlay.base) paintOverlay(ctx, scene, overlay);
        for (const part of scene.parts) paintBars(ctx, scene, part);
        paintExtremes(ctx, scene);
      });
      if (g.volumeH) {
        this.clipped(0, g.volumeTop, g.plotW, g.volumeH, () => {
          paintVolume(ctx, scene, { rung: scene.volumeRung, spans: scene.volumeSpans });
        });
      }
      const first = store.first[baseOf(scene.rung)];
      if (scene.rung < 60 && first > scene.t0 && first < scene.t1) {
        paintSeam(ctx, scene, scene.xAt(first), `1 s from ${clockText(first, this.tz)}`);
      }
      paintGapTicks(ctx, scene, gapTicks(scene));
    }
    paintAxes(ctx, scene);
  }

  clipped(x, y, w, h, paint) {
    this.ctx.save();
    this.ctx.beginPath();
    this.ctx.rect(x, y, w, h);
    this.ctx.clip();
    paint();
    this.ctx.restore();
  }

  axisWidth(scene) {
    const { ctx } = this;
    let widest = textWidth(ctx, scene.faces.price, formatPrice(this.store.l1?.last ?? NaN, scene.digits));
    for (const { label } of scene.priceTicks) widest = Math.max(widest, textWidth(ctx, scene.faces.axis, label));
    return Math.max(AXIS_CSS_MIN, Math.ceil(widest / scene.g.dpr) + AXIS_PAD_CSS);
  }

  tellNeeds(scene) {
    const rungs = [scene.rung, scene.volumeRung, this.view.period].filter((rung) => LADDER.includes(rung) || rung === this.view.period);
    this.market.need(this, needsOf(scene), rungs);
    for (const overlay of this.overlays) overlay.need(this, [needsOf({ ...scene, store: overlay.store, volumeRung: scene.rung })[0]], [scene.rung]);
  }

  words() {
    const { scene } = this;
    if (!scene) return;
    this.cards.update();
    const bar = this.store && (this.cross.bar() || this.store.tail(this.view.period));
    const isShown = Boolean(scene.g.volumeH && this.market?.info);
    show(this.volumeLabel, isShown);
    if (!isShown) return;
    this.volumeLabel.style.transform = `translateY(${(scene.g.volumeTop + 4 * scene.g.dpr) / scene.g.dpr}px)`;
    const unit = this.market.info.unit ? ` ${this.market.info.unit}` : '';
    setText(this.volumeLabel, `Volume  ${bar ? formatVolume(bar.v) + unit : ''}`);
  }

  /** Bars between the view's right edge and now that came while not following. */
  get behind() {
    return this.view.follow ? 0 : Math.max(0, this.lastSlot - Math.floor(this.view.right) + 1);
  }

  /** Place of css px `x` as {t, slot, pos} of the period. */
  placeAt(x) {
    const pos = V.posAt(this.view, this.cssW, x);
    return { pos, slot: Math.floor(pos) };
  }

  posOfTime(t) {
    return posOf(t, this.view.period);
  }
}
