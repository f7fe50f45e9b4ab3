// Order mode as a whole: keys, requests, cancel, close, stop all. Holds no truth: what is on the chart is
// what the EMS said, and orders clicked just now. Nothing is ever sent by a key alone, except cancel.

import { Amend } from './amend.js';
import { Ceremony } from './ceremony.js';
import { BASE, CROSS, WORDS } from './loop.js';
import { Notices } from './notices.js';
import { formatSize, isWorking, positionWords, sideWords, unsigned } from './order_words.js';
import { OrderNews } from './order_news.js';
import { Staging } from './staging.js';

const SIDES = ['buy', 'sell', 'alert'];
const TWICE_MS = 1000 / 6;
const ANSWER_MS = 3000;
const PENDING_MAX = 200;
const TICK_MS = 100;

export class Orders {
  constructor(page) {
    this.page = page;
    this.staging = new Staging(this);
    this.held = new Set();
    this.amend = new Amend(this);
    this.ceremony = new Ceremony(() => this.redraw());
    this.notices = new Notices(() => page.prefs.notify);
    this.news = new OrderNews(this);
    this.pending = new Map();
    this.id = 0;
    this.waiting = null;
    this.cancelledAt = -Infinity;
  }

  // ---- what others ask

  get stage() {
    return this.staging.stage;
  }

  /** The view stands still under a staged or dragged order. */
  freezes(chart) {
    return this.stage?.chart === chart || (this.amend.isHeld && this.amend.state.chart === chart);
  }

  /** [words, tone] of the status bar's mode; null outside of order mode. */
  get mode() {
    return this.stage ? [this.stage.name, this.stage.action] : null;
  }

  /** The sentence at the status bar while something is staged or waits for enter. */
  get hint() {
    if (this.ceremony.wait) return this.ceremony.words;
    if (this.amend.isHeld) return this.amend.state.isKeyed ? 'enter sends the change · esc undoes' : 'release sends the change · esc undoes';
    return this.stage ? this.stage.hint : '';
  }

  say(text, seconds) {
    this.page.status.say(text, seconds);
  }

  /** A refusal: in full, and said at once to who listens. */
  refuse(text) {
    this.page.status.alarm(text);
  }

  /** Sends a request and returns its number; 0 (and says so) when there is no connection. */
  request(op, fields) {
    this.id += 1;
    if (!this.page.link.send(op, { id: this.id, ...fields })) {
      this.refuse('Not connected: nothing was sent.');
      return 0;
    }
    this.pending.set(this.id, { op, fields });
    if (this.pending.size > PENDING_MAX) this.pending.delete(this.pending.keys().next().value);
    return this.id;
  }

  /** Orders of `market` changed: its charts draw their lines anew. */
  changed(market, bits = WORDS) {
    market.notify('orders', bits);
    this.tick();
    this.redraw();
  }

  /** Mode and hint changed: status bar, pane, and the lines of the chart that is staged on. */
  redraw() {
    const { stage, page } = this;
    if (stage) {
      stage.wait = this.ceremony.wait && stage.isPinned ? `${this.ceremony.left}` : '';
      page.loop.dirty(stage.chart, CROSS | WORDS);
    }
    document.body.classList.toggle('revealing', Boolean(stage) || page.prefs.order_labels === 'always');
    page.writeOrders();
  }

  /** While a word is awaited the chips count. */
  tick() {
    if (this.timer) return;
    this.timer = setInterval(() => {
      const isWaiting = [...this.page.markets.byFqme.values()].some(({ book }) =>
        [...book.rows.values()].some(({ state }) => ['submitting', 'sent', 'pending'].includes(state)));
      if (this.waiting && performance.now() - this.waiting.at > ANSWER_MS) this.unanswered();
      this.page.layout.each(WORDS);
      if (isWaiting || this.waiting) return;
      clearInterval(this.timer);
      this.timer = 0;
    }, TICK_MS);
  }

  // ---- keys

  /** An order key went down. */
  press(id) {
    this.held.add(id);
    if (SIDES.includes(id)) this.staging.begin(id);
    else if (this.stage) this.staging.retitle();
    this.notices.ask();
  }

  release(id) {
    this.held.delete(id);
    if (this.stage && this.stage.action === id && !this.stage.isPinned) this.staging.leave();
    else if (this.stage) this.staging.retitle();
  }

  /** All order keys are dropped: a lost key-up must never leave order mode on. */
  drop() {
    this.held.clear();
    this.amend.undoKeyed();
    if (!this.stage?.isPinned) this.staging.leave();
  }

  /** The chart shows something else now: nothing staged or moved on it goes on. */
  letGo(chart) {
    if (this.page.pointed === chart) this.page.pointed = null;
    if (this.stage?.chart === chart) {
      if (this.stage.isPinned) this.ceremony.drop();
      this.staging.leave();
    }
    if (this.amend.state?.chart === chart) this.amend.undo();
  }

  // ---- orders

  /** Turns the order side of a market on; asking twice does no harm. */
  turnOn(market) {
    if (['off', 'refused'].includes(market.book.desk.state)) this.request('trade', { chan: market.chan });
  }

  /** Why no order of the market can be placed now; '' when one can. */
  obstacle({ book, status }) {
    const { state, text, killed } = book.desk;
    if (this.page.link.state !== 'open') return 'Not connected to the chart process.';
    if (killed) return killed;
    if (status.gate) return status.gate;
    if (state === 'off' || state === 'connecting') return text || 'Orders: connecting…';
    return state === 'ready' ? '' : text || `Orders: ${state}.`;
  }

  /** Hands an order over; its line stands at once, grey until somebody has a word on it. */
  submit(chart, fields) {
    const { market } = chart;
    const id = this.request('order', fields);
    if (!id) return;
    this.waiting = { id, oid: fields.oid, at: performance.now() };
    const { book } = market;
    book.addLocal({ ...fields, size: fields.size || '', account: book.account, mode: book.mode, filled: '0', order_type: 'limit', fires: '',
      client_ref: 'chart', reduce_only: false, trigger_price: '', parent: '', revision: 0 });
    this.say(`submitting ${sideWords(fields)}`);
    this.changed(market, BASE);
  }

  unanswered() {
    this.waiting = null;
    this.refuse('No answer from the chart process yet: the order may still go out; do not click again blindly.');
  }

  /** The chart process answered request `id`: the button works again. */
  answered(id) {
    const asked = this.pending.get(id);
    this.pending.delete(id);
    if (this.waiting?.id === id) this.waiting = null;
    return asked;
  }

  // ---- cancel, close, stop

  /** The key of cancel: the line under the pointer or with the focus; twice, all of the market. */
  cancelKey() {
    const now = performance.now();
    const isTwice = now - this.cancelledAt < TWICE_MS;
    this.cancelledAt = isTwice ? -Infinity : now;
    const chart = this.page.pointed || this.page.focused;
    if (isTwice) this.cancelAll(this.page.focused.market);
    else this.close(chart, chart.lines.chosen() || this.page.focused.lines.chosen());
  }

  /** The × of a line: cancels an order; closes a position after enter. */
  close(chart, spec) {
    if (spec?.kind === 'position') this.flatten(chart.market, spec.position);
    else if (spec?.row && isWorking(spec.row)) this.request('cancel', { chan: chart.market.chan, oid: spec.row.oid });
  }

  cancelAll(market) {
    if (market?.info) this.request('cancel_all', { chan: market.chan });
  }

  flatten(market, position) {
    const words = `close ${positionWords(position)} ${formatSize(unsigned(position.size))} ${market.book.alloc?.base || ''}`.trim();
    this.ceremony.ask(words, () => {
      if (this.request('flatten', { chan: market.chan, account: position.account })) this.say(`closing ${words.slice(6)}`);
    });
  }

  stopAll(market) {
    this.ceremony.ask('stop all: cancel everything, no new orders', () => this.request('kill', { chan: market.chan }));
  }

  arm(market) {
    this.ceremony.ask('let orders pass again', () => this.request('arm', { chan: market.chan }));
  }

  take(market, message) {
    this.news.take(market, message);
  }

  refused(market, message) {
    this.news.refused(market, message);
  }
}
