// The one animation loop: dirty bits in, painters called, asleep when nothing is set.

import { quantile } from './num.js';

export const BASE = 1;
export const EDGE = 2;
export const CROSS = 4;
export const WORDS = 8;
const SAMPLES_MAX = 240;

export class Loop {
  constructor() {
    this.bits = new Map();
    this.movers = new Set();
    this.request = 0;
    this.painted = 0;
    this.skipped = 0;
    this.jsMs = [];
    this.intervals = [];
    this.lastFrame = 0;
    this.waiting = [];
    this.frame = this.frame.bind(this);
  }

  /** Asks for a paint of `target` (an object with `paint(bits, now)`). */
  dirty(target, bits) {
    this.bits.set(target, (this.bits.get(target) || 0) | bits);
    this.wake();
  }

  /** Runs `move(now)` before each paint until it returns false. */
  move(move) {
    this.movers.add(move);
    this.wake();
  }

  /** Resolves after the next paint. */
  paintedOnce() {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.wake();
    });
  }

  wake() {
    if (!this.request) this.request = requestAnimationFrame(this.frame);
  }

  frame(now) {
    this.request = 0;
    const started = performance.now();
    for (const move of this.movers) if (!move(now)) this.movers.delete(move);
    const work = this.bits;
    this.bits = new Map();
    let drew = false;
    for (const [target, bits] of work) drew = target.paint(bits, now) !== false || drew;
    if (drew) this.painted += 1;
    else this.skipped += 1;
    this.sample(this.jsMs, performance.now() - started);
    if (now - this.lastFrame < 100) this.sample(this.intervals, now - this.lastFrame);
    this.lastFrame = now;
    for (const resolve of this.waiting.splice(0)) resolve();
    if (this.movers.size || this.bits.size) this.wake();
  }

  sample(list, value) {
    list.push(value);
    if (list.length > SAMPLES_MAX) list.shift();
  }

  /** Frame figures for the debug page. */
  statistics() {
    return { painted: this.painted, skipped: this.skipped, js_ms_p50: quantile(this.jsMs, 0.5),
      js_ms_p99: quantile(this.jsMs, 0.99), interval_p99: quantile(this.intervals, 0.99) };
  }
}
