// Crosshair: two dashed lines and two tags as elements, the readout of the bar under it, query mode.

import { el, setText, show } from './dom.js';
import { timeOf, periodName } from './ladder.js';
import { stampText } from './cal.js';
import { formatCount, formatPercent, formatPrice, formatVolume, snap } from './num.js';
import { xOf } from './view.js';

const TAG_CSS = 18;

export class Cross {
  constructor(chart) {
    this.chart = chart;
    this.at = null;
    this.isQuery = false;
    this.vertical = el('div', 'still cross-x hidden');
    this.horizontal = el('div', 'still cross-y hidden');
    this.price = el('div', 'still tag price hidden');
    this.time = el('div', 'still tag time hidden');
    this.readout = el('div', 'readout');
    this.cells = {};
    for (const name of ['O', 'H', 'L', 'C', 'change', 'V', 'query']) {
      const value = el('b');
      const isExtra = ['change', 'V', 'query'].includes(name);
      this.cells[name] = value;
      this.readout.append(el('span', isExtra ? 'extra' : '', name.length === 1 ? name : '', [value]));
    }
    chart.el.append(this.vertical, this.horizontal, this.time, this.price, this.readout);
  }

  /** Moves to css px of the chart, or away with null. */
  move(at) {
    this.at = at;
  }

  get slot() {
    if (!this.at) return null;
    return this.at.slot ?? this.chart.placeAt(this.at.x).slot;
  }

  /** The bar under the crosshair; null without one. */
  bar() {
    if (this.slot === null || !this.chart.store) return null;
    const { period } = this.chart.view;
    return this.chart.store.barAt(period, timeOf(this.slot, period));
  }

  update() {
    const { scene } = this.chart;
    if (!scene) return;
    const isShown = Boolean(this.at && scene.store);
    for (const node of [this.vertical, this.time]) show(node, isShown);
    if (isShown) this.place(scene);
    else for (const node of [this.horizontal, this.price]) show(node, false);
    this.write(scene);
  }

  place(scene) {
    const { g, view } = scene;
    const { chart } = this;
    const x = Math.round(xOf(view, chart.cssW, this.slot + 0.5) * g.dpr - g.h / 2) / g.dpr;
    const isInside = x >= 0 && x <= chart.cssW;
    show(this.vertical, isInside);
    show(this.time, isInside);
    this.vertical.style.height = `${g.timeTop / g.dpr}px`;
    this.vertical.style.transform = `translateX(${x}px)`;
    const t = timeOf(this.slot, view.period);
    setText(this.time, stampText(t, chart.tz, view.period, chart.page.link.now()));
    const half = this.time.textContent.length * 3.2 + 8;
    const left = Math.min(Math.max(half, x), chart.cssW - half);
    this.time.style.transform = `translate(calc(${left}px - 50%), ${g.timeTop / g.dpr + 1}px)`;
    this.placePrice(scene);
  }

  placePrice(scene) {
    const { g } = scene;
    const { y } = this.at;
    const isStaged = this.chart.page.orders.freezes(this.chart);
    const isInside = !isStaged && y !== undefined && y >= 0 && y * g.dpr < g.plotH;
    show(this.horizontal, isInside);
    show(this.price, isInside);
    if (!isInside) return;
    const price = this.snapped(scene);
    const row = Math.round(scene.y(price)) / g.dpr;
    this.horizontal.style.width = `${g.plotW / g.dpr}px`;
    this.horizontal.style.transform = `translateY(${row}px)`;
    setText(this.price, formatPrice(price, scene.digits));
    this.price.style.width = `${(g.w - g.plotW) / g.dpr}px`;
    this.price.style.transform = `translate(${g.plotW / g.dpr}px, ${row - TAG_CSS / 2}px)`;
  }

  /** The tick nearest to the pointer. */
  snapped(scene) {
    return snap(scene.price(this.at.y * scene.g.dpr), this.chart.market.tick);
  }

  write(scene) {
    const { chart, cells } = this;
    const bar = scene.store && (this.bar() || (this.at ? null : scene.store.tail(scene.view.period)));
    show(this.readout, Boolean(bar));
    if (!bar) return;
    const tone = scene.isStale ? '' : bar.c >= bar.o ? 'up' : 'down';
    const values = { O: bar.o, H: bar.h, L: bar.l, C: bar.c };
    for (const [name, value] of Object.entries(values)) this.cell(name, formatPrice(value, scene.digits, true), tone);
    this.cell('change', formatPercent(bar.o ? bar.c / bar.o - 1 : NaN), tone);
    this.cell('V', chart.market.info?.has_vlm ? formatVolume(bar.v) : '–', scene.isStale ? '' : 'strong');
    this.cell('query', this.isQuery ? this.query(bar) : '', '');
  }

  query(bar) {
    return `slot ${formatCount(this.slot ?? 0)}  epoch ${bar.t}  rung ${periodName(bar.rung)}  ver ${bar.ver}`;
  }

  cell(name, text, tone) {
    setText(this.cells[name], text);
    if (this.cells[name].className !== tone) this.cells[name].className = tone;
  }
}
