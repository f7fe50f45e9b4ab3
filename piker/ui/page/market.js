// Markets followed over the link: channels, what each chart needs, which blocks are asked for next.
//
// Blocks of the view come first, then half a screen either side, then a coarser level to fall back
// on; at most 16 are outstanding. A `want` replaces what is unsent of an older one on its level, and
// the older one's `done` frees its blocks to be asked again.

import { BLOCK, TAIL } from './frames.js';
import { BLOCK_SLOTS, timeOf } from './ladder.js';
import { digitsOf } from './num.js';
import { OrderBook } from './order_book.js';
import { Store } from './store.js';

const OUTSTANDING_MAX = 16;
const PX_PER_SLOT = 2;

export class Market {
  constructor(link, cache, chan, fqme) {
    this.link = link;
    this.chan = chan;
    this.fqme = fqme;
    this.info = null;
    this.digits = 2;
    this.tick = 0;
    this.status = { feed: 'connecting', cause: '', daemons: [] };
    this.statusAt = performance.now();
    this.load = null;
    this.error = null;
    this.store = new Store(cache, chan);
    this.book = new OrderBook();
    this.listeners = new Set();
    this.needs = new Map();
    this.asked = new Map();
    this.rungs = '';
    this.wantId = 0;
  }

  notify(kind, data) {
    for (const listener of this.listeners) listener(kind, data, this);
  }

  open() {
    this.asked.clear();
    this.rungs = '';
    this.link.send('open', { chan: this.chan, fqme: this.fqme });
  }

  takeInfo(info) {
    this.info = info;
    this.error = null;
    this.tick = Number(info.price_tick) || 0;
    this.digits = digitsOf(info.price_tick);
    this.asked.clear();
    this.store.setMarket(info);
    this.rungs = '';
    this.follow();
    this.notify('market', info);
    this.pump();
  }

  takeStatus(status) {
    this.status = status;
    this.statusAt = performance.now();
    this.notify('status', status);
  }

  takeFrame(frame) {
    if (frame.kind === BLOCK) {
      this.asked.delete(`${frame.rung}:${frame.key}`);
      if (this.store.addBlock(frame)) this.notify('blocks', frame);
    } else if (frame.kind === TAIL) {
      this.notify('tail', this.store.addTail(frame));
    }
  }

  takeDone({ id, rung, missing }) {
    for (const [key, asked] of this.asked) if (asked === id) this.asked.delete(key);
    for (const k of missing) this.store.absent.add(this.store.keyOf(rung, k));
    if (missing.length) this.notify('blocks', null);
    this.pump();
  }

  takeDirty(dirty) {
    this.store.setDirty(dirty);
    if (dirty.bars && this.info) this.info.bars = dirty.bars;
    this.notify('dirty', dirty);
    this.pump();
  }

  takeLoad(load) {
    this.load = load.have < load.total ? load : null;
    this.notify('load', load);
  }

  takeGap(gap) {
    this.store.addGap({ t0: gap.t0, t1: gap.t1, kind: gap.kind, n: gap.n, filled: gap.filled });
    this.notify('gap', gap);
  }

  /** Seconds since the newest record, counted on between two `status` messages. */
  get age() {
    return (this.status.age || 0) + (performance.now() - this.statusAt) / 1000;
  }

  get isStale() {
    return ['stale', 'refused', 'down'].includes(this.status.feed) || this.link.state !== 'open';
  }

  /** A chart says what it shows: `levels` = arrays of {rung, k0, k1} by priority, and live rungs. */
  need(chart, levels, rungs) {
    this.needs.set(chart, { levels, rungs });
    this.follow();
    this.pump();
  }

  release(chart) {
    this.needs.delete(chart);
    this.follow();
  }

  /** Tells the actor which rungs' last bars to stream, when that changed. */
  follow() {
    const rungs = [...new Set([...this.needs.values()].flatMap((need) => need.rungs))].sort((a, b) => a - b);
    if (!this.info || !rungs.length || rungs.join() === this.rungs) return;
    for (const held of this.rungs.split(',').filter(Boolean)) {
      if (!rungs.includes(Number(held))) this.store.edgeStale(Number(held));
    }
    if (this.link.send('live', { chan: this.chan, rungs, ticks: false, l2: 0 })) this.rungs = rungs.join();
  }

  /** Asks for the missing blocks of the most urgent priority that has any. */
  pump() {
    if (!this.info || this.link.state !== 'open') return;
    const depth = Math.max(0, ...[...this.needs.values()].map((need) => need.levels.length));
    for (let priority = 0; priority < depth; priority += 1) {
      const isWaiting = this.ask(priority);
      if (isWaiting) return;
    }
  }

  /** Sends the wants of one priority; true when blocks of it are still to come. */
  ask(priority) {
    const byRung = new Map();
    let isWaiting = false;
    for (const { levels } of this.needs.values()) {
      for (const { rung, k0, k1 } of levels[priority] || []) {
        for (const k of this.store.missing(rung, k0, k1, [])) {
          isWaiting = true;
          if (this.asked.has(`${rung}:${k}`)) continue;
          if (!byRung.has(rung)) byRung.set(rung, new Set());
          byRung.get(rung).add(k);
        }
      }
    }
    for (const [rung, wanted] of byRung) {
      const ks = [...wanted].slice(0, Math.max(0, OUTSTANDING_MAX - this.asked.size));
      if (ks.length) this.want(rung, ks);
    }
    return isWaiting;
  }

  want(rung, ks) {
    this.wantId += 1;
    for (const k of ks) this.asked.set(`${rung}:${k}`, this.wantId);
    const [k0, k1] = [Math.min(...ks), Math.max(...ks) + 1];
    this.link.send('want', { chan: this.chan, id: this.wantId, period: rung, ks,
      t0: timeOf(k0 * BLOCK_SLOTS, rung), t1: timeOf(k1 * BLOCK_SLOTS, rung),
      px: PX_PER_SLOT * (k1 - k0) * BLOCK_SLOTS });
  }
}

export class Markets {
  constructor(link, cache) {
    this.link = link;
    this.cache = cache;
    this.byFqme = new Map();
    this.byChan = new Map();
    this.chan = 0;
  }

  /** The market of `fqme`, opened when it is new. */
  open(fqme) {
    let market = this.byFqme.get(fqme);
    if (!market) {
      this.chan += 1;
      market = new Market(this.link, this.cache, this.chan, fqme);
      this.byFqme.set(fqme, market);
      this.byChan.set(market.chan, market);
      if (this.link.state === 'open') market.open();
    }
    return market;
  }

  close(market) {
    this.byFqme.delete(market.fqme);
    this.byChan.delete(market.chan);
    for (const [key] of [...market.store.blocks()]) this.cache.drop(key);
    this.link.send('close', { chan: market.chan });
  }

  /** What is still held, for the `hello` after a reconnect. */
  have() {
    const held = {};
    for (const market of this.byFqme.values()) {
      if (market.info) held[market.fqme] = [market.store.gen, market.store.rev];
    }
    return held;
  }

  /** After a hole in the stream: nothing held is trusted. */
  doubt() {
    for (const market of this.byFqme.values()) {
      for (const [, block] of market.store.blocks()) block.stale = true;
    }
  }

  openAll() {
    for (const market of this.byFqme.values()) market.open();
  }

  frame(frame) {
    this.byChan.get(frame.chan)?.takeFrame(frame);
  }

  /** Hands a control message to its market; false when it is not about one. */
  control(message) {
    const market = this.byChan.get(message.chan);
    if (!market) return false;
    const takers = { market: 'takeInfo', status: 'takeStatus', done: 'takeDone', dirty: 'takeDirty', load: 'takeLoad',
      gap: 'takeGap' };
    if (message.op === 'err') {
      market.error = message;
      market.notify('err', message);
      return true;
    }
    if (!takers[message.op]) return false;
    market[takers[message.op]](message);
    return true;
  }
}
