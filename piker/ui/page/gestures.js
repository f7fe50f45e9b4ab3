// Pointer, wheel and touch turned into intents of the chart under them.

import { CROSS, WORDS } from './loop.js';
import { clamp } from './num.js';
import { VOLUME_SHARE } from './chart.js';

const WHEEL_PX_MAX = 120;
const WHEEL_ZOOM = 0.0022;
const LINE_PX = 16;
const DIVIDER_PX = 4;
const LINE_SLOP_PX = 4;
const LONG_PRESS_MS = 350;
const SLOP_PX = 6;
const FLICK_WINDOW_MS = 80;

/** Css px of a wheel event, whatever its unit, capped. */
export function wheelPx(delta, mode, page) {
  const px = delta * (mode === 1 ? LINE_PX : mode === 2 ? page : 1);
  return clamp(px, -WHEEL_PX_MAX, WHEEL_PX_MAX);
}

export class Gestures {
  constructor(chart, measure) {
    this.chart = chart;
    this.measure = measure;
    this.drag = null;
    this.touches = new Map();
    this.press = 0;
    this.hasTouchCross = false;
    const on = (name, act, options) => chart.el.addEventListener(name, act, options);
    on('pointerdown', (event) => this.down(event));
    on('pointermove', (event) => this.move(event));
    on('pointerup', (event) => this.up(event));
    on('pointercancel', (event) => this.up(event));
    on('pointerleave', () => this.leave());
    on('wheel', (event) => this.wheel(event), { passive: false });
    on('dblclick', (event) => this.doubleClick(event));
    on('contextmenu', (event) => event.preventDefault());
  }

  /** Where css px of the chart are: 'plot', 'price', 'time' or 'divider'. */
  zone(x, y) {
    const g = this.chart.scene?.g;
    if (!g) return 'plot';
    if (y >= g.timeTop / g.dpr) return 'time';
    if (g.volumeH && Math.abs(y - g.volumeTop / g.dpr) <= DIVIDER_PX) return 'divider';
    return x >= g.plotW / g.dpr ? 'price' : 'plot';
  }

  at(event) {
    const box = this.chart.el.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    if (event.target.closest('button')) return;
    const { chart } = this;
    const { x, y } = this.at(event);
    const { orders } = chart.page;
    if (orders.stage?.chart === chart && !event.target.dataset.handle) {
      if (event.button === 0) orders.staging.click(chart, x, y);
      return;
    }
    const line = event.button === 0 ? this.lineOf(event) : null;
    chart.intents.halt();
    chart.el.focus({ preventScroll: true });
    chart.el.setPointerCapture(event.pointerId);
    chart.holding = true;
    if (event.pointerType === 'touch') {
      this.touches.set(event.pointerId, { x, y });
      if (this.touches.size === 2) {
        this.pinchFrom();
        return;
      }
      if (this.hasTouchCross) this.endTouchCross();
      else this.press = setTimeout(() => this.startTouchCross(), LONG_PRESS_MS);
    }
    const zone = this.zone(x, y);
    let kind = line ? 'line' : zone;
    if (zone === 'plot' && event.button === 2) kind = 'zoom';
    if (zone === 'plot' && event.button === 0 && event.shiftKey) kind = 'measure';
    if (kind === 'measure') this.measure.start(x, y);
    this.drag = { kind, x, y, x0: x, y0: y, button: event.button, samples: [], isTouch: event.pointerType === 'touch', line,
      handle: event.target.dataset.handle || '' };
    if (line) chart.lines.focus(line.key);
    if (kind === 'plot') chart.el.classList.add('panning');
  }

  /** The line under a press. A finger takes one that it tapped before: a swipe must not move an order. */
  lineOf(event) {
    const { lines } = this.chart;
    const spec = lines.specOf(event.target);
    if (event.pointerType !== 'touch' || !spec || lines.specOf(document.activeElement)?.key === spec.key) return spec;
    this.tapped = spec.key;
    return null;
  }

  pinchFrom() {
    clearTimeout(this.press);
    const [a, b] = [...this.touches.values()];
    this.drag = { kind: 'pinch', w: Math.abs(a.x - b.x), v: Math.abs(a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  }

  startTouchCross() {
    this.hasTouchCross = true;
    if (!this.drag) return;
    this.drag.kind = 'cross';
    this.showCross(this.drag.x, this.drag.y);
  }

  endTouchCross() {
    this.hasTouchCross = false;
    this.chart.cross.move(null);
    this.chart.page.loop.dirty(this.chart, CROSS | WORDS);
  }

  showCross(x, y) {
    this.chart.cross.move({ x, y });
    this.chart.page.onCross(this.chart);
    this.chart.page.loop.dirty(this.chart, CROSS | WORDS);
  }

  move(event) {
    const { x, y } = this.at(event);
    const { drag, chart } = this;
    if (this.touches.has(event.pointerId)) this.touches.set(event.pointerId, { x, y });
    if (!drag) {
      this.hover(x, y, event);
      return;
    }
    if (drag.kind === 'pinch') {
      this.pinch();
      return;
    }
    const [dx, dy] = [x - drag.x, y - drag.y];
    if (Math.hypot(x - drag.x0, y - drag.y0) > SLOP_PX) clearTimeout(this.press);
    Object.assign(drag, { x, y });
    this.dragBy(drag, dx, dy, x, y);
    if (!drag.isTouch && drag.kind === 'plot') this.showCross(x, y);
    if (drag.kind === 'plot') {
      drag.samples.push({ x, at: performance.now() });
      while (drag.samples[0].at < performance.now() - FLICK_WINDOW_MS) drag.samples.shift();
    }
    chart.el.classList.toggle('panning', drag.kind === 'plot');
  }

  dragBy(drag, dx, dy, x, y) {
    const { intents, scene } = this.chart;
    if (!scene?.store) return;
    const height = scene.g.plotH / scene.g.dpr;
    if (drag.kind === 'plot') intents.pan(dx, dy);
    else if (drag.kind === 'line') this.dragLine(drag, x, y);
    else if (drag.kind === 'cross') this.showCross(x, y);
    else if (drag.kind === 'measure') this.measure.to(x, y);
    else if (drag.kind === 'price') intents.zoomY(Math.exp((dy / height) * 2));
    else if (drag.kind === 'time') intents.zoomX(Math.exp(-dx / 200), this.chart.cssW);
    else if (drag.kind === 'zoom') {
      intents.zoomX(Math.exp(dx / 200), drag.x0);
      if (dy) intents.zoomY(Math.exp(dy / 200), 1 - drag.y0 / height);
    } else if (drag.kind === 'divider') {
      intents.setVolumeShare(1 - y / (scene.g.timeTop / scene.g.dpr));
    }
  }

  /** A line moves up and down; a drag along it is a pan that happened to begin there. */
  dragLine(drag, x, y) {
    const { amend } = this.chart.page.orders;
    const [dx, dy] = [Math.abs(x - drag.x0), Math.abs(y - drag.y0)];
    if (!drag.isMoving) {
      if (Math.max(dx, dy) < LINE_SLOP_PX) return;
      const isUp = drag.handle || dy >= dx;
      drag.isMoving = isUp && amend.start(this.chart, drag.line, drag.handle || 'price');
      if (!drag.isMoving) {
        drag.kind = isUp ? 'none' : 'plot';
        return;
      }
    }
    this.showCross(x, y);
    if (amend.isHeld) amend.to(y);
  }

  pinch() {
    if (this.touches.size < 2) return;
    const [a, b] = [...this.touches.values()];
    const { drag } = this;
    const { intents, scene } = this.chart;
    const [w, v, x] = [Math.abs(a.x - b.x), Math.abs(a.y - b.y), (a.x + b.x) / 2];
    if (Math.max(w, drag.w) >= Math.max(v, drag.v)) intents.zoomX(clamp(w / Math.max(1, drag.w), 0.5, 2), x);
    else if (scene) intents.zoomY(clamp(Math.max(1, drag.v) / Math.max(1, v), 0.5, 2), 1 - ((a.y + b.y) / 2) / (scene.g.plotH / scene.g.dpr));
    intents.pan(x - drag.x);
    Object.assign(drag, { w, v, x });
  }

  hover(x, y, event) {
    if (event.pointerType === 'touch') return;
    const zone = this.zone(x, y);
    for (const name of ['price', 'time', 'divider']) {
      this.chart.el.classList.toggle(name === 'price' ? 'on-axis' : `on-${name}`, zone === name);
    }
    this.chart.page.pointed = this.chart;
    const words = this.chart.markWords(x, y) || this.chart.gapWords(x, y);
    if (this.chart.el.title !== words) this.chart.el.title = words;
    if (zone === 'price' || zone === 'time') this.leave();
    else this.showCross(x, y);
  }

  up(event) {
    const { drag, chart } = this;
    clearTimeout(this.press);
    this.touches.delete(event.pointerId);
    chart.el.classList.remove('panning');
    chart.holding = false;
    this.drag = null;
    if (!drag) return;
    if (drag.kind === 'measure') this.measure.finish();
    if (this.tapped && drag.isTouch && Math.hypot(drag.x - drag.x0, drag.y - drag.y0) < SLOP_PX) chart.lines.focus(this.tapped);
    this.tapped = '';
    if (drag.isMoving) chart.page.orders.amend[event.type === 'pointerup' ? 'finish' : 'undo']();
    if (drag.kind === 'plot' && drag.isTouch && drag.samples.length > 1) {
      const [a, b] = [drag.samples[0], drag.samples[drag.samples.length - 1]];
      if (b.at > a.at) chart.intents.flick((b.x - a.x) / (b.at - a.at));
    }
    if (chart.view.follow) chart.thaw();
  }

  leave() {
    if (this.chart.page.pointed === this.chart) this.chart.page.pointed = null;
    if (this.drag || this.hasTouchCross || !this.chart.cross.at) return;
    this.chart.cross.move(null);
    this.chart.page.onCross(this.chart);
    this.chart.page.loop.dirty(this.chart, CROSS | WORDS);
  }

  wheel(event) {
    event.preventDefault();
    const { intents, scene, cssW } = this.chart;
    if (!scene?.store) return;
    const { x, y } = this.at(event);
    const px = wheelPx(event.deltaY, event.deltaMode, innerHeight);
    const side = wheelPx(event.deltaX, event.deltaMode, innerWidth);
    const zone = this.zone(x, y);
    if (this.chart.page.orders.staging.wheel(this.chart, px)) return;
    intents.halt();
    if (zone === 'price') intents.zoomY(Math.exp(px * WHEEL_ZOOM));
    else if (zone === 'time') intents.zoomX(Math.exp(-px * WHEEL_ZOOM), cssW);
    else if (event.ctrlKey) intents.zoomX(Math.exp(-px * WHEEL_ZOOM * 2), x);
    else if (event.shiftKey || Math.abs(side) > Math.abs(px)) intents.pan(-(side || px));
    else intents.zoomX(Math.exp(-px * WHEEL_ZOOM), this.chart.view.follow ? null : x);
  }

  doubleClick(event) {
    if (event.target.closest('button')) return;
    const { intents, page } = this.chart;
    if (page.orders.stage) return;
    // The pointer was captured by the chart: the event's own target is the chart too.
    const line = this.chart.lines.specOf(document.elementFromPoint(event.clientX, event.clientY));
    if (line?.kind === 'order') {
      page.actions.editSize(this.chart, line.row);
      return;
    }
    const { x, y } = this.at(event);
    const zone = this.zone(x, y);
    if (zone === 'price') intents.autoY();
    else if (zone === 'divider') intents.setVolumeShare(VOLUME_SHARE);
    else intents.reset();
  }
}
