// One market's orders as the page was told of them: the desk's state, limits, orders, positions
// and fills. Holds no truth of its own but the orders that were just clicked and have no word yet.

import { isWorking } from './order_words.js';

const FILLS_MAX = 2000;
const ALERTS_MAX = 200;

const keyOf = ({ account, tid }) => `${account}:${tid}`;

export class OrderBook {
  constructor() {
    this.desks = new Map();
    this.alloc = null;
    this.sized = null;
    this.rows = new Map();
    this.positions = new Map();
    this.fills = [];
    this.tids = new Set();
    this.alerts = [];
    this.partial = new Set();
    this.rev = 0;
  }

  /** How the chosen account trades: 'paper' or 'live'. */
  get mode() {
    return this.alloc?.mode || 'paper';
  }

  get desk() {
    return this.desks.get(this.mode) || { state: 'off', text: '', killed: '', held: 0 };
  }

  get account() {
    return this.alloc?.account || 'paper';
  }

  get killed() {
    return [...this.desks.values()].map(({ killed }) => killed).find(Boolean) || '';
  }

  /** Working orders and alerts, highest price first. */
  working() {
    return [...this.rows.values()].filter(isWorking);
  }

  /** Positions that are not flat. */
  held() {
    return [...this.positions.values()].filter(({ size }) => Number(size) !== 0);
  }

  /** Takes a message; returns what became of it: {kind, row, before, fresh}. */
  take(message) {
    this.rev += 1;
    const takers = { desk: 'takeDesk', allocst: 'takeAlloc', sized: 'takeSized', orders: 'takeOrders', ordst: 'takeOrder',
      fill: 'takeFill', fills: 'takeFills', pos: 'takePosition', count: 'takeCount' };
    return { kind: message.op, ...this[takers[message.op]](message) };
  }

  takeDesk(desk) {
    const before = this.desks.get(desk.mode);
    this.desks.set(desk.mode, desk);
    return { desk, before };
  }

  takeAlloc(alloc) {
    this.alloc = alloc;
    return { alloc };
  }

  /** An answer to an older question says nothing any more. */
  takeSized(sized) {
    if (!this.sized || sized.id >= this.sized.id) this.sized = sized;
    return { sized };
  }

  /** All open orders of one mode: what is not among them is gone. */
  takeOrders({ mode, rows, more }) {
    const before = new Map();
    if (!this.partial.has(mode)) {
      for (const [oid, row] of this.rows) {
        if (row.mode !== mode) continue;
        before.set(oid, row);
        this.rows.delete(oid);
      }
    }
    if (more) this.partial.add(mode);
    else this.partial.delete(mode);
    for (const row of rows) this.rows.set(row.oid, { ...row, at: performance.now() });
    const lost = [...before.values()].filter((row) => isWorking(row) && !this.rows.has(row.oid));
    return { rows, lost: more ? [] : lost };
  }

  takeOrder(row) {
    const before = this.rows.get(row.oid) || null;
    if (row.gone) this.rows.delete(row.oid);
    else this.rows.set(row.oid, { ...row, at: before?.at ?? performance.now() });
    if (row.gone && row.state === 'triggered') {
      this.alerts = [...this.alerts, { oid: row.oid, t: row.t, price: row.trigger_price || row.price }].slice(-ALERTS_MAX);
    }
    return { row, before };
  }

  /** Puts the line of an order on the chart that was clicked just now. */
  addLocal(row) {
    this.rev += 1;
    this.rows.set(row.oid, { ...row, state: 'submitting', isLocal: true, at: performance.now() });
  }

  /** Takes an order away that nobody has heard of; null when it has been acknowledged meanwhile. */
  dropLocal(oid) {
    const row = this.rows.get(oid);
    if (!row?.isLocal) return null;
    this.rev += 1;
    this.rows.delete(oid);
    return row;
  }

  addFill(fill) {
    if (this.tids.has(keyOf(fill))) return false;
    this.tids.add(keyOf(fill));
    this.fills.push(fill);
    if (this.fills.length > FILLS_MAX) {
      const [oldest] = this.fills.splice(0, 1);
      this.tids.delete(keyOf(oldest));
    }
    return true;
  }

  takeFill(fill) {
    return { fill, fresh: this.addFill(fill) };
  }

  /** Past fills; `anew` names an account whose marks are all said again. */
  takeFills({ rows, anew }) {
    if (anew) {
      this.fills = this.fills.filter(({ account }) => account !== anew);
      this.tids = new Set(this.fills.map(keyOf));
    }
    for (const row of rows) this.addFill(row);
    return {};
  }

  takePosition(position) {
    this.positions.set(position.account, position);
    return { position };
  }

  takeCount(count) {
    return { count };
  }
}
