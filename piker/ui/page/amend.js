// Moving an order: drag its line, or nudge the focused one by ticks. The original stays where the
// venue has it; a dotted second line moves, and is sent on release (or enter).

import { snap } from './num.js';
import { isMovable, levelText } from './order_words.js';

const WORDS = { price: 'price', take_profit: 'take profit', stop_loss: 'stop loss' };

export class Amend {
  /** `orders` = the order mode: {page, say, request, changed}. */
  constructor(orders) {
    this.orders = orders;
    this.state = null;
  }

  get isHeld() {
    return Boolean(this.state) && !this.state.isSent;
  }

  /** Begins to move `what` ('price', 'take_profit' or 'stop_loss') of the order of `spec`. */
  start(chart, spec, what, isKeyed = false) {
    const isStaged = spec.kind === 'staged';
    if (!isStaged && spec.kind !== 'order') return false;
    // The book's own row: what is painted may be a frame behind the EMS's last word.
    const row = isStaged ? { oid: 'staged', revision: 0 } : chart.market.book.rows.get(spec.row.oid);
    if (!row || (!isStaged && !isMovable(row))) return false;
    const from = what === 'price' ? levelText(row) : '';
    this.state = { chart, row, what, from, level: from, isKeyed, isSent: false, id: 0 };
    return true;
  }

  /** Moves to css row `y`. */
  to(y) {
    const { chart } = this.state;
    const price = chart.scene.price(y * chart.scene.g.dpr);
    this.set(snap(price, chart.market.tick));
  }

  set(price) {
    const { chart, row, what } = this.state;
    this.state.level = price.toFixed(chart.market.digits);
    if (row.oid === 'staged') this.orders.stage[what] = this.state.level;
    this.orders.changed(chart.market);
  }

  /** Moves the focused line by `ticks`. */
  nudge(chart, spec, ticks) {
    const isSame = this.isHeld && this.state.isKeyed && this.state.row.oid === spec.row?.oid;
    if (!isSame && !this.start(chart, spec, 'price', true)) return;
    const price = Number(this.state.level) + ticks * chart.market.tick;
    this.set(snap(price, chart.market.tick));
  }

  /** What was nudged and not sent is undone when the line loses the focus. */
  undoKeyed() {
    if (this.isHeld && this.state.isKeyed) this.undo();
  }

  undo() {
    const { state } = this;
    this.state = null;
    if (!state) return;
    this.orders.changed(state.chart.market);
    state.chart.thaw();
  }

  /** Sends what was moved; nothing when it stands where it stood. */
  finish() {
    const { state } = this;
    if (!state || state.isSent) return;
    const { row, what, level, from, chart } = state;
    if (row.oid === 'staged' || !level || Number(level) === Number(from)) {
      this.undo();
      return;
    }
    if (!(Number(level) > 0)) {
      this.undo();
      this.orders.refuse(`No ${WORDS[what]} at ${level}: a price must be above zero.`);
      return;
    }
    this.send({ chan: chart.market.chan, oid: row.oid, revision: row.revision, [what]: level });
  }

  /** Sends one amend; `fields` may be sent again with `confirmed`. */
  send(fields) {
    const { state } = this;
    const id = this.orders.request('amend', fields);
    if (!id) {
      this.undo();
      return;
    }
    Object.assign(state, { isSent: true, id, fields });
    state.chart.thaw();
    this.orders.say('change sent');
    this.orders.changed(state.chart.market);
  }

  /** Another size of the same order. */
  resize(chart, row, size) {
    this.state = { chart, row, what: 'size', from: row.size, level: '', isKeyed: false, isSent: false, id: 0 };
    this.send({ chan: chart.market.chan, oid: row.oid, revision: row.revision, size });
  }

  /** The EMS has a word on the order: from now on its own row says where the dotted line is. */
  heard(row) {
    if (this.state?.isSent && this.state.row.oid === row.oid) this.state = null;
  }
}
