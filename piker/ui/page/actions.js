// What each key of the table does to the page; the ids are those of keys.js.

import { BASE, CROSS, WORDS } from './loop.js';
import { PERIODS } from './header.js';
import { parsePeriod, periodName, periodWords } from './ladder.js';
import { clockText, parseWhen } from './cal.js';
import { isMovable, sideWords } from './order_words.js';
import { formatCount, formatPercent, formatPrice } from './num.js';

// Keys that count while they are down; `ctrl` has no entry of its own.
const HELD = ['buy', 'sell', 'alert', 'live', 'steps'];

export class Actions {
  constructor(page) {
    this.page = page;
  }

  /** Listens to the keyboard with the trader's own keys. */
  bind(Keys, remapped) {
    const { orders } = this.page;
    return new Keys(remapped || {}, { run: (id) => this.run(id), digit: (digit) => this.enterPeriod(digit), dropped: () => orders.drop(),
      release: (id) => this.released(id), isBusy: (key) => this.hasSheet(key), claims: (event) => this.page.orderKeys.claims(event) });
  }

  /** A sheet has the keys; only `esc` and the key that closes it pass. */
  hasSheet(key) {
    const { palette, entry, help } = this.page;
    return (palette.isOpen || entry.isOpen || help.isOpen) && key !== 'Escape' && key !== '?';
  }

  get chart() {
    return this.page.focused;
  }

  run(id) {
    const { chart, page } = this;
    const { intents } = chart;
    const simple = { 'zoom-in': 'zoomIn', 'zoom-out': 'zoomOut', home: 'home', now: 'now', reset: 'reset', redraw: 'redraw',
      grid: 'toggleGrid' };
    const steps = { 'step-left': -1, 'step-right': 1, 'step-left-10': -10, 'step-right-10': 10 };
    if (simple[id]) intents[simple[id]]();
    else if (steps[id]) intents.step(steps[id]);
    else if (id === 'half-left' || id === 'half-right') intents.stepHalf(id === 'half-left' ? -1 : 1);
    else if (id === 'finer' || id === 'coarser') this.shiftPeriod(id === 'finer' ? -1 : 1);
    else if (['log', 'percent', 'invert'].includes(id)) this.toggle(id);
    else if (id === 'query') this.query(true);
    else if (HELD.includes(id)) page.orders.press(id);
    else if (id === 'next-chart' || id === 'previous-chart') page.layout.turn(id === 'next-chart' ? 1 : -1);
    else if (id === 'next-market' || id === 'previous-market') this.turnMarket(id === 'next-market' ? 1 : -1);
    else this.runPage(id);
  }

  runPage(id) {
    const { page } = this;
    const acts = {
      search: () => this.search(), help: () => page.help.toggle(), leave: () => this.leave(), 'go-to': () => this.goTo(),
      theme: () => this.theme('toggle'), 'color-blind': () => this.theme('toggleColorBlind'), layout: () => page.layout.next(),
      maximise: () => page.layout.maximise(), cancel: () => page.orders.cancelKey(), side: () => page.side.toggle(), 'new-window': () => page.link.send('code', {}), speak: () => this.speak(),
    };
    acts[id]?.();
  }

  search() {
    this.page.help?.close();
    this.page.keys?.dropAll();
    this.page.palette.open();
  }

  released(id) {
    if (id === 'query') this.query(false);
    else this.page.orders.release(id);
  }

  query(isOn) {
    this.chart.cross.isQuery = isOn;
    this.page.loop.dirty(this.chart, CROSS | WORDS);
  }

  toggle(name) {
    const refusal = this.chart.intents.toggle(name);
    if (refusal) this.page.status.say(refusal);
  }

  theme(what) {
    this.page.theme[what]();
    this.page.layout.each(BASE);
  }

  shiftPeriod(side) {
    const at = PERIODS.findIndex((period) => period >= this.chart.view.period);
    const next = PERIODS[at + side];
    if (next) this.chart.intents.setPeriod(next);
  }

  turnMarket(side) {
    const markets = [...this.page.markets.byFqme.values()].filter((market) => !market.error && !this.chart.overlays.includes(market));
    const at = markets.indexOf(this.chart.market);
    if (markets.length > 1) this.chart.setMarket(markets[(at + side + markets.length) % markets.length]);
  }

  enterPeriod(digit) {
    this.page.entry.open('Period: 15 (minutes), 30s, 4h, 1d', digit, (text) => {
      const period = parsePeriod(text);
      const rungs = this.chart.market?.info?.rungs || PERIODS;
      if (!rungs.includes(period)) return `No such period; there are ${rungs.map(periodName).join(', ')}.`;
      this.chart.intents.setPeriod(period);
      return '';
    }, () => this.page.refocus());
  }

  /** Another size for a working order, typed. */
  editSize(chart, row) {
    const { orders } = this.page;
    if (row.action === 'alert' || !isMovable(row)) return;
    this.page.entry.open(`Size of ${sideWords(row)}, now ${row.size}`, row.size, (text) => {
      const size = text.trim();
      if (!/^\d*\.?\d+$/.test(size) || !(Number(size) > 0)) return 'A size is a number above zero.';
      if (Number(size) !== Number(row.size)) orders.amend.resize(chart, row, size);
      return '';
    }, () => this.page.refocus());
  }

  goTo() {
    const { link } = this.page;
    this.page.entry.open('Go to: 2026-11-03 14:30, 14:30, -3d', '', (text) => {
      const t = parseWhen(text, link.now(), this.chart.tz);
      if (t === null) return 'That is no date or time.';
      this.chart.intents.goTo(t);
      return '';
    }, () => this.page.refocus());
  }

  /** Leaves what is open, in order: palette, entry, sheets, measure, crosshair. */
  leave() {
    const { page } = this;
    const { palette, entry, help, details } = page;
    const open = [palette, entry, help, details].find((sheet) => sheet.isOpen);
    if (open) open.close();
    else if (this.chart.measure.isOpen) this.chart.measure.clear();
    else if (page.orders.stage) page.orders.staging.leave();
    else {
      this.chart.cross.move(null);
      this.page.loop.dirty(this.chart, CROSS | WORDS);
    }
  }

  /** `42 bars filled, 14:02 to 14:44`. */
  filledWords({ t0, t1 }, market) {
    const { tz, view } = this.chart;
    const period = view.period < 60 && t1 - t0 < 7200 ? view.period : Math.max(60, view.period);
    const bars = Math.max(1, Math.round((t1 - t0) / period));
    const name = market === this.chart.market ? '' : `${market.fqme}: `;
    return `${name}${formatCount(bars)} bar${bars === 1 ? '' : 's'} filled, ${clockText(t0, tz)} to ${clockText(t1, tz)}`;
  }

  speak() {
    const { market, scene, view } = this.chart;
    const l1 = market?.store.l1;
    if (!l1 || !scene?.extremes) return;
    const { digits } = market;
    const price = (value) => formatPrice(value, digits);
    this.page.status.speak(`${market.fqme}, ${periodWords(view.period)}, last ${price(l1.last)}, change ${
      formatPercent(l1.last / l1.sessionOpen - 1)}, high ${price(scene.extremes.high.price)}, low ${price(scene.extremes.low.price)}`);
  }
}
