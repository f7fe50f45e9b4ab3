// The measure box: change, bars and duration, excursions, sigma and volume between two points.

import { el, show } from './dom.js';
import { slotOf, timeOf } from './ladder.js';
import { formatCount, formatDuration, formatPercent, formatPrice, formatVolume, snap } from './num.js';
import { posAt, xOf } from './view.js';

// Width and height the six lines take, to place them beside the box.
const WORDS_CSS = [210, 112];

/** Figures of the closed bars `rows` = [{h, l, c, v}] for a move from `p0` to `p1`. */
export function figures(rows, p0, p1) {
  let [high, low, volume, sum, square, n, previous] = [-Infinity, Infinity, 0, 0, 0, 0, NaN];
  for (const row of rows) {
    high = Math.max(high, row.h);
    low = Math.min(low, row.l);
    volume += row.v || 0;
    if (previous > 0 && row.c > 0) {
      const change = Math.log(row.c / previous);
      sum += change;
      square += change * change;
      n += 1;
    }
    previous = row.c;
  }
  const mean = n ? sum / n : 0;
  return { change: p1 - p0, share: p1 / p0 - 1, dmx: high / p0 - 1, dmn: low / p0 - 1, volume,
    sigma: n > 1 ? Math.sqrt(Math.max(0, (square - n * mean * mean) / (n - 1))) : NaN };
}

export class Measure {
  constructor(chart) {
    this.chart = chart;
    this.from = this.until = null;
    this.box = el('div', 'still measure hidden');
    this.words = el('div', 'still measure-words hidden');
    chart.el.append(this.box, this.words);
  }

  get isOpen() {
    return this.from !== null;
  }

  point(x, y) {
    const { chart } = this;
    const price = snap(chart.scene.price(y * chart.scene.g.dpr), chart.market.tick);
    return { slot: Math.floor(posAt(chart.view, chart.cssW, x)), price };
  }

  start(x, y) {
    if (!this.chart.scene?.store) return;
    this.from = this.until = this.point(x, y);
    this.paint();
  }

  to(x, y) {
    if (!this.isOpen) return;
    this.until = this.point(x, y);
    this.paint();
  }

  finish() {
    if (this.isOpen && this.from.slot === this.until.slot && this.from.price === this.until.price) this.clear();
  }

  clear() {
    this.from = this.until = null;
    show(this.box, false);
    show(this.words, false);
  }

  /** Puts box and words where the two points are now; called after each paint of the base. */
  paint() {
    if (!this.isOpen || !this.chart.scene?.store) return;
    const { chart, from, until } = this;
    const { scene, view, cssW } = chart;
    const x = [from, until].map(({ slot }) => xOf(view, cssW, slot + 0.5));
    const y = [from, until].map(({ price }) => scene.y(price) / scene.g.dpr);
    const [left, top] = [Math.min(...x), Math.min(...y)];
    this.box.style.transform = `translate(${left}px, ${top}px)`;
    this.box.style.width = `${Math.abs(x[1] - x[0])}px`;
    this.box.style.height = `${Math.abs(y[1] - y[0])}px`;
    this.words.replaceChildren(...this.rows().flatMap(([name, text]) => [el('span', '', name), el('b', '', text)]));
    show(this.box, true);
    show(this.words, true);
    const below = until.price < from.price;
    this.words.style.transform = `translate(${Math.max(4, Math.min(left, cssW - WORDS_CSS[0]))}px, ${below ? Math.max(...y) + 8 : top - WORDS_CSS[1]}px)`;
  }

  /** [name, words] of the six figures. */
  rows() {
    const { chart, from, until } = this;
    const { period } = chart.view;
    const [a, b] = [Math.min(from.slot, until.slot), Math.max(from.slot, until.slot)];
    const rows = [];
    chart.store.visit(period, timeOf(a, period), timeOf(b + 1, period), (block, i0, i1) => {
      for (let i = i0; i < i1; i += 1) rows.push({ h: block.h[i], l: block.l[i], c: block.c[i], v: block.v[i] });
    });
    const tail = chart.store.tail(period);
    if (tail && slotOf(tail.t, period) >= a && slotOf(tail.t, period) <= b) rows.push(tail);
    const f = figures(rows, from.price, until.price);
    const digits = chart.market.digits;
    const bars = until.slot - from.slot;
    const sign = f.change > 0 ? '+' : '';
    return [['change', `${sign}${formatPrice(f.change, digits)}  ${formatPercent(f.share)}`],
      ['bars', `${formatCount(bars)}  ${formatDuration(Math.abs(bars) * period)}`],
      ['max', formatPercent(f.dmx)], ['min', formatPercent(f.dmn)],
      ['sigma', Number.isFinite(f.sigma) ? `${formatPercent(f.sigma).replace('+', '')} per bar` : '–'],
      ['volume', `${formatVolume(f.volume)} ${chart.market.info.unit || ''}`]];
  }
}
