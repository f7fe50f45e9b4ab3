// What gestures and keys may ask of a chart: "pan by", "zoom at", "go to". Each ends in one repaint.

import * as V from './view.js';
import { BASE, CROSS, WORDS } from './loop.js';
import { posOf, slotOf } from './ladder.js';
import { clamp } from './num.js';

const STEP = 1.25;
const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');

export class Intents {
  constructor(chart) {
    this.chart = chart;
    this.inertia = null;
  }

  get view() {
    return this.chart.view;
  }

  changed(isSettled = true) {
    const { chart } = this;
    if (isSettled) {
      V.bound(this.view, chart.cssW, chart.firstSlot, chart.lastSlot);
      V.settle(this.view, chart.cssW, chart.lastSlot);
    }
    chart.refit();
    chart.page.onWords(chart);
  }

  pan(dx, dy = 0) {
    V.panBy(this.view, dx);
    if (dy && !this.view.autoY) V.panY(this.view, dy / (this.chart.scene.g.plotH / this.chart.scene.g.dpr));
    this.changed();
  }

  /** Lets go of a drag with a velocity in css px per ms. */
  flick(velocity) {
    if (reducedMotion.matches || Math.abs(velocity) < 0.05) return;
    const inertia = new V.Inertia(velocity, performance.now());
    this.inertia = inertia;
    this.chart.page.loop.move((now) => {
      if (this.inertia !== inertia) return false;
      this.pan(inertia.step(Math.max(now, inertia.last)));
      return !inertia.isOver;
    });
  }

  halt() {
    this.inertia = null;
  }

  /** Zooms x by `factor` about css px `x`, or about the last bar while following. */
  zoomX(factor, x = null) {
    const { view, chart } = this;
    let at = x ?? chart.cssW;
    if (view.follow && x === null) at = clamp(V.xOf(view, chart.cssW, chart.lastSlot + 0.5), 0, chart.cssW);
    V.zoomAt(view, chart.cssW, at, factor);
    this.changed();
  }

  zoomIn() {
    this.zoomX(STEP);
  }

  zoomOut() {
    this.zoomX(1 / STEP);
  }

  /** Scales y by `factor` about the share `at` of the pane's height from its foot. */
  zoomY(factor, at = 0.5) {
    const { extremes } = this.chart.scene;
    if (!extremes) return;
    V.zoomY(this.view, factor, at, extremes.low.price, extremes.high.price);
    this.changed();
  }

  panY(share) {
    V.panY(this.view, share);
    this.changed();
  }

  autoY() {
    this.view.autoY = true;
    this.changed(false);
  }

  reset() {
    this.halt();
    V.reset(this.view, this.chart.cssW, this.chart.lastSlot);
    this.changed(false);
  }

  /** Drops what is held and asks for all of it again. */
  redraw() {
    const { market } = this.chart;
    if (!market) return;
    for (const [, block] of market.store.blocks()) block.stale = true;
    market.store.absent.clear();
    market.asked.clear();
    this.changed(false);
  }

  now() {
    this.halt();
    V.toNow(this.view, this.chart.cssW, this.chart.lastSlot);
    this.changed(false);
  }

  home() {
    const shown = this.chart.cssW / this.view.spacing;
    this.view.right = this.chart.firstSlot + shown * 0.95;
    this.changed();
  }

  /** Shows time `t` in the middle, with the crosshair on it. */
  goTo(t) {
    const slot = slotOf(t, this.view.period);
    this.view.right = posOf(t, this.view.period) + this.chart.cssW / this.view.spacing / 2;
    this.changed();
    this.chart.cross.move({ slot });
    this.chart.page.loop.dirty(this.chart, CROSS);
  }

  setPeriod(period) {
    const { chart, view } = this;
    if (period === view.period) return;
    V.changePeriod(view, period);
    if (view.follow) V.toNow(view, chart.cssW, chart.lastSlot);
    chart.cross.move(null);
    this.changed(!view.follow);
    chart.page.onPeriod(chart);
  }

  /** Moves the crosshair by bars; the view follows at the edge. */
  step(bars) {
    const { chart, view } = this;
    const from = chart.cross.slot ?? chart.lastSlot;
    const slot = clamp(from + bars, chart.firstSlot, chart.lastSlot);
    const x = V.xOf(view, chart.cssW, slot + 0.5);
    if (x < 0) V.panBy(view, -x + view.spacing);
    else if (x > chart.cssW) V.panBy(view, chart.cssW - x - view.spacing);
    chart.cross.move({ slot, y: chart.cross.at?.y });
    if (x < 0 || x > chart.cssW) this.changed();
    chart.page.loop.dirty(chart, CROSS | WORDS);
  }

  stepHalf(side) {
    const half = Math.floor(this.chart.cssW / this.view.spacing / 2);
    this.view.right += side * half;
    this.changed();
    this.step(side * half);
  }

  /** Toggles 'log', 'percent' or 'invert'; returns the sentence that says why not, or ''. */
  toggle(name) {
    const { view, chart } = this;
    if (name === 'log' && !view.log && !(chart.scene?.extremes?.low.price > 0)) {
      return 'Log scale needs prices above zero in view.';
    }
    view[name] = !view[name];
    view.autoY = true;
    this.changed(false);
    return '';
  }

  toggleGrid() {
    this.chart.grid = !this.chart.grid;
    this.chart.page.loop.dirty(this.chart, BASE);
  }

  setVolumeShare(share) {
    this.chart.volumeShare = clamp(share, 0.05, 0.6);
    this.changed(false);
  }
}
