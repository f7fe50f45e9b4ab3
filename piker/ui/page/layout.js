// The grid of charts: which ones are on screen, which has the focus, their sizes in device px.

import { BASE } from './loop.js';

export const LAYOUTS = ['one', 'two', 'four', 'pair'];
// The lower chart of the slow-fast pair.
const FAST_PERIOD = 1;
const COUNTS = { one: 1, two: 2, four: 4, pair: 2 };

export class Layout {
  /** `make(like)` builds a chart that begins like another one; `onFocus(chart)` hears of the focus. */
  constructor(root, make, onFocus) {
    this.root = root;
    this.make = make;
    this.onFocus = onFocus;
    this.charts = [];
    this.name = 'one';
    this.focused = null;
    this.isMaximised = false;
    this.observer = new ResizeObserver((entries) => entries.forEach((entry) => this.resized(entry)));
    this.watchDpr();
  }

  /** Repaints inside the observer: in the same frame as the new size, else the canvas flashes stretched. */
  resized(entry) {
    const chart = this.charts.find(({ el }) => el === entry.target);
    if (!chart) return;
    const dpr = window.devicePixelRatio || 1;
    const { width, height } = entry.contentRect;
    const device = entry.devicePixelContentBoxSize?.[0];
    // An emulated pixel ratio is not in the device box: then css px tell the truth.
    const isTrue = device && Math.abs(device.inlineSize - width * dpr) < 2;
    chart.resize(isTrue ? device.inlineSize : Math.round(width * dpr), isTrue ? device.blockSize : Math.round(height * dpr), dpr);
  }

  watchDpr() {
    const query = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    query.addEventListener('change', () => {
      this.onDpr?.();
      this.charts.forEach((chart) => this.observe(chart));
      this.watchDpr();
    }, { once: true });
  }

  observe(chart) {
    this.observer.unobserve(chart.el);
    try {
      this.observer.observe(chart.el, { box: 'device-pixel-content-box' });
    } catch {
      this.observer.observe(chart.el);
    }
  }

  set(name) {
    this.name = name;
    this.root.className = LAYOUTS.includes(name) && name !== 'one' ? `${name} many` : '';
    while (this.charts.length < COUNTS[name]) {
      const chart = this.make(this.focused);
      chart.el.addEventListener('focusin', () => this.focus(chart));
      this.charts.push(chart);
      this.root.append(chart.el);
      this.observe(chart);
    }
    for (const chart of this.charts.splice(COUNTS[name])) {
      this.observer.unobserve(chart.el);
      chart.el.remove();
      chart.discard();
    }
    if (name === 'pair') this.charts[1].intents.setPeriod(FAST_PERIOD);
    if (!this.charts.includes(this.focused)) this.focus(this.charts[0]);
  }

  next() {
    this.set(LAYOUTS[(LAYOUTS.indexOf(this.name) + 1) % LAYOUTS.length]);
  }

  focus(chart) {
    if (this.focused === chart) return;
    this.focused = chart;
    for (const other of this.charts) other.el.classList.toggle('focused', other === chart);
    this.onFocus(chart);
  }

  /** Focus moves on by `side` charts. */
  turn(side) {
    const n = this.charts.length;
    const chart = this.charts[(this.charts.indexOf(this.focused) + side + n) % n];
    chart.el.focus({ preventScroll: true });
    this.focus(chart);
  }

  /** One chart takes the whole grid, and gives it back. */
  maximise() {
    this.isMaximised = !this.isMaximised && this.charts.length > 1;
    this.root.classList.toggle('maximised', this.isMaximised);
  }

  each(bits = BASE) {
    for (const chart of this.charts) chart.page.loop.dirty(chart, bits);
  }
}
