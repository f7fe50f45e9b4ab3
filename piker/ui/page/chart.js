// One chart: its market, its camera, its canvases, and what a paint of it does.
// Gestures and keys reach it through the intents of intents.js; it holds no truth about the market.

import * as V from './view.js';
import { Cards } from './cards.js';
import { clockText, knownZone } from './cal.js';
import { Cross } from './cross.js';
import { el, setText, show } from './dom.js';
import { posOf, slotOf } from './ladder.js';
import { Lines } from './lines.js';
import { Edge } from './live.js';
import { BASE, CROSS, EDGE, WORDS } from './loop.js';
import { formatCount, formatVolume } from './num.js';
import { markWords } from './paint_orders.js';
import { paintPicture } from './picture.js';
import { baseOf, gapTicks, needsOf } from './scene.js';
import { forgetFaces } from './text.js';

const AXIS_CSS_MIN = 64;
const GAP_TICK_CSS = 6;
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
    this.stamp = 0;
    this.listen = (kind, data, market) => this.heard(kind, data, market);
    this.build();
    this.lines = new Lines(this);
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
    this.page.orders.letGo(this);
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
    if (kind === 'orders') {
      loop.dirty(this, data);
      return;
    }
    if (kind === 'market') this.place();
    else if (kind === 'tail') this.heardTail(data, market);
    else if (kind === 'status') this.heardStatus();
    else this.refit();
    if (market === this.market && kind !== 'tail') {
      this.cards.update();
      this.page.onWords(this);
    }
    loop.dirty(this, WORDS);
  }

  /** Only a change between fresh and stale changes the picture; the rest is words. */
  heardStatus() {
    const isStale = Boolean(this.market?.isStale);
    if (isStale !== Boolean(this.scene?.isStale)) this.page.loop.dirty(this, BASE);
  }

  heardTail({ rolled }, market) {
    const { loop } = this.page;
    if (market !== this.market) {
      if (rolled) loop.dirty(this, BASE);
      return;
    }
    const bar = this.store.tail(this.scene?.rung);
    const scene = this.scene;
    if (!this.view.placed) this.place();
    if (rolled) this.rollOver();
    const high = scene?.extremes?.high.price;
    const low = scene?.extremes?.low.price;
    const grows = bar && scene && (bar.h > high || bar.l < low || high === undefined);
    const volume = scene && this.store.tail(scene.volumeRung);
    loop.dirty(this, rolled || grows || (volume && volume.v > scene.volumeMax) ? BASE | EDGE : EDGE);
    this.page.onTail(this);
  }

  /** Nothing moves under a held button, a staged order or a dragged line. */
  get isStill() {
    return this.holding || this.page.orders.freezes(this);
  }

  /** What was held still catches up. */
  thaw() {
    if (!this.store || this.isStill) return;
    this.rollOver();
    this.refit();
  }

  /** A bar began: following moves on by its slots, but never under a held button. */
  rollOver() {
    if (this.view.follow && !this.isStill) V.advance(this.view, this.lastSlot);
    if (this.fit !== 'exact') this.fit = 'bar';
  }

  resize(w, hgt, dpr) {
    if (this.size && this.size.w === w && this.size.hgt === hgt && this.size.dpr === dpr) return;
    if (this.size && this.size.dpr !== dpr) forgetFaces();
    const isAway = this.size && this.view.placed && !this.view.follow;
    this.size = { w, hgt, dpr };
    [this.base.width, this.base.height] = [w, hgt];
    if (!isAway) this.place();
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
    this.page.orders.staging.aim(this);
    this.scene.stagedRow = this.page.orders.staging.rowOn(this);
    const isLabelMoved = bits & CROSS && this.wasStaged !== this.scene.stagedRow;
    this.wasStaged = this.scene.stagedRow;
    if (bits & (BASE | EDGE) || isLabelMoved) drew = this.paintEdge() || drew;
    if (bits & (BASE | CROSS | EDGE)) this.cross.update();
    if (bits & (BASE | WORDS) || this.page.orders.freezes(this)) this.lines.update();
    if (bits & (BASE | WORDS)) this.words();
    return drew;
  }

  paintEdge() {
    if (!this.scene.store) return false;
    return this.edge.paint(this.scene, this.page.link.now());
  }

  paintBase() {
    const scene = paintPicture(this);
    this.stamp += 1;
    scene.stamp = this.stamp;
    this.scene = scene;
    this.edge.forget();
    this.measure.paint();
    if (scene.store) this.tellNeeds(scene);
  }

  tellNeeds(scene) {
    this.market.need(this, needsOf(scene), [scene.rung, scene.volumeRung, this.view.period]);
    for (const overlay of this.overlays) {
      const [own] = needsOf({ ...scene, store: overlay.store, volumeRung: scene.rung });
      overlay.need(this, [own], [scene.rung]);
    }
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

  /** What happened in the repaired gap whose tick is under css px (x, y); '' without one. */
  gapWords(x, y) {
    const { scene } = this;
    if (!scene?.store) return '';
    const { g } = scene;
    if (y < g.timeTop / g.dpr - GAP_TICK_CSS || y > g.timeTop / g.dpr) return '';
    const near = GAP_TICK_CSS * g.dpr;
    const tick = gapTicks(scene).find(({ x0, x1 }) => x * g.dpr >= x0 - near && x * g.dpr <= x1 + near);
    if (!tick) return '';
    const { t0, t1, kind, n } = tick.gap;
    const cause = kind === 'lost' ? `${formatCount(n)} records lost` : 'no data';
    return `${cause} from ${clockText(t0, this.tz, true)} to ${clockText(t1, this.tz, true)}, filled from history`;
  }

  /** The fills or the alert whose arrow is under css px (x, y); '' without one. */
  markWords(x, y) {
    return this.scene ? markWords(this.scene, x * this.scene.g.dpr, y * this.scene.g.dpr, this.tz) : '';
  }

  /** Place of css px `x` as {t, slot, pos} of the period. */
  placeAt(x) {
    const pos = V.posAt(this.view, this.cssW, x);
    return { pos, slot: Math.floor(pos) };
  }

  posOfTime(t) {
    return posOf(t, this.view.period);
  }

  /** The chart left the grid: nothing is streamed for it any more. */
  discard() {
    this.page.orders.letGo(this);
    this.release(this.market);
    for (const overlay of this.overlays) this.release(overlay);
  }
}
