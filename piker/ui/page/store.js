// What the page holds of a market: blocks under one LRU byte budget, the forming bars, L1 and gaps.
// Answers "which rows are in view" and "which blocks are missing"; never draws, never sends.
//
// Rules (chart.md 3.4): a row of a TAIL counts only when its `ver` is newer than what is held for
// that bar; a block read before a `dirty` of its range is ignored; blocks and forming bars of an
// older generation stay in the picture, marked stale and held, until the new ones are there.

import { BLOCK_SLOTS, blockOf, slotOf, timeOf } from './ladder.js';
import { lowerBound } from './num.js';
import { COMPLETE } from './frames.js';

const COLUMNS = ['t', 'o', 'h', 'l', 'c', 'v'];
const RECENT_ROWS_MAX = 16;
const DIRTY_RANGES_MAX = 64;
const GAPS_MAX = 200;

export class Store {
  constructor(cache, id) {
    this.cache = cache;
    this.id = id;
    this.gen = -1;
    this.rev = 0;
    this.first = {};
    this.last = {};
    this.l1 = null;
    this.ver = 0;
    this.gaps = [];
    this.tails = new Map();
    this.recent = new Map();
    this.absent = new Set();
    this.dirtyRanges = [];
    this.dimmed = false;
    this.counts = { nan: 0, odd: 0, ignored: 0 };
  }

  keyOf(rung, k) {
    return `${this.id}:${rung}:${k}`;
  }

  * blocks() {
    for (const [key, block] of this.cache.map) if (block.owner === this.id) yield [key, block];
  }

  /** Takes a `market` message: a new generation keeps the old picture, dimmed, and re-asks all. */
  setMarket(market) {
    const isNew = this.gen !== market.gen;
    if (isNew && this.gen !== -1) {
      for (const [, block] of this.blocks()) block.stale = true;
      this.dimmed = true;
      this.recent.clear();
      this.dirtyRanges = [];
    }
    this.gen = market.gen;
    this.gaps = (market.gaps || []).slice(-GAPS_MAX);
    this.absent.clear();
    for (const [t0, t1] of market.dirty || []) this.spoil(t0, t1, market.rev);
    this.rev = market.rev;
    this.extent(market);
    this.edgeStale();
    if (this.l1) this.l1 = { ...this.l1, held: true };
  }

  extent({ first, last }) {
    if (first) this.first = first;
    if (last) this.last = last;
  }

  /** History in [t0, t1) changed: held blocks stay drawn but will be asked again. */
  setDirty({ t0, t1, rev, first, last }) {
    this.spoil(t0, t1, rev);
    this.rev = Math.max(this.rev, rev);
    this.extent({ first, last });
  }

  spoil(t0, t1, rev) {
    for (const [, block] of this.blocks()) {
      const from = timeOf(block.k * BLOCK_SLOTS, block.rung);
      if (from < t1 && from + BLOCK_SLOTS * block.rung > t0) block.stale = true;
    }
    this.absent.clear();
    this.dirtyRanges.push({ t0, t1, rev });
    if (this.dirtyRanges.length > DIRTY_RANGES_MAX) {
      const [a, b] = this.dirtyRanges.splice(0, 2);
      this.dirtyRanges.unshift({ t0: Math.min(a.t0, b.t0), t1: Math.max(a.t1, b.t1), rev: Math.max(a.rev, b.rev) });
    }
  }

  /** A gap replaces those of its kind inside it: a repair covers all that was reported meanwhile. */
  addGap(gap) {
    const isInside = (held) => held.kind === gap.kind && held.t0 >= gap.t0 && held.t1 <= gap.t1;
    this.gaps = [...this.gaps.filter((held) => !isInside(held)), gap].slice(-GAPS_MAX);
  }

  /**
   * The newest block of each rung (or of one) may lack rows: ask it again when it is shown. Forming
   * bars are only held from here on: shown, replaced by the first row that comes, never patched in.
   */
  edgeStale(rung = 0) {
    const newest = new Map();
    for (const [, block] of this.blocks()) {
      if (rung && block.rung !== rung) continue;
      const held = newest.get(block.rung);
      if (!held || block.k > held.k) newest.set(block.rung, block);
    }
    for (const block of newest.values()) block.stale = true;
    if (rung) this.tails.delete(rung);
    else for (const [own, tail] of this.tails) this.tails.set(own, { ...tail, held: true });
    for (const key of this.absent) {
      if (!rung || key.startsWith(`${this.id}:${rung}:`)) this.absent.delete(key);
    }
  }

  addBlock(frame) {
    if (frame.gen !== this.gen) return false;
    const from = timeOf(frame.key * BLOCK_SLOTS, frame.rung);
    const to = from + BLOCK_SLOTS * frame.rung;
    if (this.dirtyRanges.some((d) => d.rev > frame.rev && d.t0 < to && d.t1 > from)) {
      this.counts.ignored += 1;
      return false;
    }
    const block = { owner: this.id, rung: frame.rung, k: frame.key, n: frame.n, ver: frame.ver, stale: false,
      complete: Boolean(frame.flags & COMPLETE), bytes: frame.bytes };
    for (const name of COLUMNS) block[name] = frame[name];
    this.count(block);
    this.cache.put(this.keyOf(block.rung, block.k), block);
    this.dimmed = false;
    if (block.n) this.dropHeld(block);
    if (!block.complete && block.n) this.mergeEdge(block);
    return true;
  }

  /** A held bar that a new block goes beyond would hide rows of it. */
  dropHeld(block) {
    const tail = this.tails.get(block.rung);
    if (tail?.held && block.t[block.n - 1] >= tail.t) this.tails.delete(block.rung);
  }

  count(block) {
    for (let i = 0; i < block.n; i += 1) {
      const [o, h, l, c] = [block.o[i], block.h[i], block.l[i], block.c[i]];
      if (h !== h || l !== l || o !== o || c !== c) this.counts.nan += 1;
      else if (h < l || o > h || o < l || c > h || c < l) this.counts.odd += 1;
    }
  }

  /** A block that holds the last bar meets what TAILs brought meanwhile: the newer `ver` wins. */
  mergeEdge(block) {
    const i = block.n - 1;
    const tail = this.tails.get(block.rung);
    if (!tail || block.t[i] > tail.t || (block.t[i] === tail.t && block.ver >= tail.ver)) {
      this.tails.set(block.rung, { rung: block.rung, t: block.t[i], o: block.o[i], h: block.h[i],
        l: block.l[i], c: block.c[i], v: block.v[i], ver: block.ver });
    }
    for (const row of this.recent.get(block.rung) || []) {
      if (row.ver > block.ver && blockOf(slotOf(row.t, row.rung)) === block.k) this.writeRow(block, row);
    }
  }

  /** Takes a TAIL; returns {rolled, changed}: whether a bar began, whether anything visible moved. */
  addTail(frame) {
    if (frame.gen !== this.gen) return { rolled: false, changed: false };
    const { last, size, tLast, bid, bidSize, ask, askSize, sessionOpen } = frame;
    this.l1 = { last, size, tLast, bid, bidSize, ask, askSize, sessionOpen };
    this.ver = frame.ver;
    let rolled = false;
    for (const row of frame.rows) rolled = this.addRow(row) || rolled;
    return { rolled, changed: true };
  }

  addRow(row) {
    const tail = this.tails.get(row.rung);
    const base = row.rung < 60 ? '1' : '60';
    if (!(this.last[base] >= row.t)) this.last[base] = row.t;
    const recent = this.recent.get(row.rung) || [];
    recent.push(row);
    if (recent.length > RECENT_ROWS_MAX) recent.shift();
    this.recent.set(row.rung, recent);
    if (!tail || tail.held) {
      this.tails.set(row.rung, row);
      return true;
    }
    if (row.t === tail.t) {
      if (row.ver > tail.ver) this.tails.set(row.rung, row);
      return false;
    }
    if (row.t < tail.t) return this.patch(row);
    this.patch(tail);
    this.tails.set(row.rung, row);
    if (slotOf(row.t, row.rung) > slotOf(tail.t, row.rung) + 1) this.edgeHole(row.rung, tail.t);
    return true;
  }

  /** Bars between two TAILs were not sent: the block of the older one is asked again. */
  edgeHole(rung, t) {
    const block = this.cache.peek(this.keyOf(rung, blockOf(slotOf(t, rung))));
    if (block) block.stale = true;
  }

  /** Writes a closed or corrected row into its block; true when the picture behind the edge changed. */
  patch(row) {
    const slot = slotOf(row.t, row.rung);
    const key = this.keyOf(row.rung, blockOf(slot));
    let block = this.cache.peek(key);
    if (!block) {
      if (slot % BLOCK_SLOTS !== 0) return false;
      block = { owner: this.id, rung: row.rung, k: blockOf(slot), n: 0, ver: 0, stale: false, complete: false, bytes: 40 };
      for (const name of COLUMNS) block[name] = new Float64Array(0);
      this.cache.put(key, block);
    }
    if (block.n && row.ver <= block.ver && block.t[block.n - 1] >= row.t) return false;
    this.writeRow(block, row);
    return true;
  }

  /** A row of a time that the block lacks takes its place among the others: it was known late. */
  writeRow(block, row) {
    const i = lowerBound(block.t, row.t, block.n);
    if (i === block.n || block.t[i] !== row.t) {
      if (block.n >= BLOCK_SLOTS) return;
      if (block.t.length === block.n) this.grow(block);
      for (const name of COLUMNS) block[name].copyWithin(i + 1, i, block.n);
      block.n += 1;
    }
    for (const name of COLUMNS) block[name][i] = row[name];
  }

  grow(block) {
    for (const name of COLUMNS) {
      const column = new Float64Array(BLOCK_SLOTS);
      column.set(block[name].subarray(0, block.n));
      block[name] = column;
    }
    const bytes = 40 + 8 * COLUMNS.length * BLOCK_SLOTS;
    this.cache.bytes += bytes - block.bytes;
    block.bytes = bytes;
  }

  tail(rung) {
    return this.tails.get(rung) || null;
  }

  /** True when block `k` of `rung` can hold rows at all. */
  mayHold(rung, k) {
    const base = rung < 60 ? '1' : '60';
    const [first, last] = [this.first[base], this.last[base]];
    if (first === null || first === undefined) return false;
    return k >= blockOf(slotOf(first, rung)) && k <= blockOf(slotOf(Math.max(last, first), rung))
      && !this.absent.has(this.keyOf(rung, k));
  }

  /** Adds the blocks k0…k1 of `rung` that should be asked for to `out`. */
  missing(rung, k0, k1, out) {
    for (let k = k1; k >= k0; k -= 1) {
      if (!this.mayHold(rung, k)) continue;
      const block = this.cache.peek(this.keyOf(rung, k));
      if (!block || block.stale) out.push(k);
    }
    return out;
  }

  /** Visits held rows of `rung` in [t0, t1) that are closed: `visit(block, i0, i1)`, ascending. */
  visit(rung, t0, t1, visit) {
    const tail = this.tails.get(rung);
    const end = tail ? Math.min(t1, tail.t) : t1;
    const k1 = blockOf(slotOf(end, rung));
    for (let k = blockOf(slotOf(t0, rung)); k <= k1; k += 1) {
      const block = this.cache.get(this.keyOf(rung, k));
      if (!block) continue;
      const i0 = lowerBound(block.t, t0, block.n);
      const i1 = lowerBound(block.t, end, block.n);
      if (i1 > i0) visit(block, i0, i1);
    }
  }

  /** True when the block of `rung` that covers `t` is held. */
  holds(rung, t) {
    return this.cache.map.has(this.keyOf(rung, blockOf(slotOf(t, rung))));
  }

  /** The bar of `rung` that is open at `t`, forming one included; null when none is held. */
  barAt(rung, t) {
    const slot = slotOf(t, rung);
    const tail = this.tails.get(rung);
    if (tail && slotOf(tail.t, rung) === slot) return tail;
    const block = this.cache.peek(this.keyOf(rung, blockOf(slot)));
    if (!block) return null;
    const i = lowerBound(block.t, timeOf(slot, rung), block.n);
    if (i >= block.n || slotOf(block.t[i], rung) !== slot) return null;
    return { rung, t: block.t[i], o: block.o[i], h: block.h[i], l: block.l[i], c: block.c[i], v: block.v[i], ver: block.ver };
  }
}
