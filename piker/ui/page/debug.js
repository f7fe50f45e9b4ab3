// The read-only inspection API, served only with --debug-page: what tests and a curious trader ask.
// A frozen object of getters; nothing here can change the page.

import { formatCountdown } from './num.js';
import { posOf, timeOf } from './ladder.js';
import { posAt, xOf } from './view.js';

/** Puts `window.piker.debug` in place for the page `{layout, link, loop, status, markets, cache}`. */
export function install(page) {
  const chart = () => page.layout.focused;
  const waiting = new Set();

  function facts() {
    const c = chart();
    const { market, scene, view } = c;
    const store = market?.store;
    return { market: market?.fqme ?? null, period: view.period, rung: scene?.rung ?? null,
      view: { t0: scene?.t0 ?? null, t1: scene?.t1 ?? null, lo: view.lo, hi: view.hi, spacing: view.spacing, follow: view.follow,
        autoY: view.autoY, log: view.log, percent: view.percent, invert: view.invert },
      last: store?.tail(view.period) ?? null, price: store?.l1?.last ?? null, bid: store?.l1?.bid ?? null,
      ask: store?.l1?.ask ?? null, session_open: store?.l1?.sessionOpen ?? null, bars_in_view: barsInView(c),
      blocks: blocks(c), feed: market?.status.feed ?? null, latency_ms: market?.status.latency_ms ?? null,
      age: market?.age ?? null, daemons: market?.status.daemons ?? [], load: market?.load ?? null, ...orderFacts(c, market),
      gaps: store ? store.gaps.map((gap) => ({ ...gap })) : [], messages: page.status.messages.map(({ text }) => text),
      counts: { ...store?.counts }, banner: c.cards.bannerWords(market), countdown: countdown(c),
      mark: market?.info?.mark ?? '', theme: document.documentElement.dataset.theme, layout: page.layout.name,
      words_due: Boolean(page.wordsTimer), frames: page.loop.statistics(), rx: { seq: page.link.seq, ver: page.link.ver, lost: page.link.holes } };
  }

  function orderFacts(c, market) {
    const { orders, notices = orders.notices } = page;
    const book = market?.book;
    return { mode: orders.mode?.[0] ?? 'view', lines: c.lines.facts(), fills: book?.fills ?? [], positions: book ? [...book.positions.values()] : [],
      desk: book?.desk ?? null, gate: market?.status.gate ?? null, alloc: book?.alloc ?? null, orders: book?.working() ?? [], marks: (c.scene?.marks ?? []).map((mark) => ({ x: mark.x,
        y: mark.y, side: mark.side, count: mark.fills.length })), account_mode: book?.mode ?? null, stage: stageFacts(orders.stage),
      waits: orders.ceremony.words, hint: orders.hint, side: page.side.isOpen, sounds: notices.sounds, notified: notices.shown };
  }

  const stageFacts = (stage) => stage && { action: stage.action, price: stage.price, steps: stage.steps, is_live: stage.isLive, sized: stage.sized };

  function countdown({ store, view }) {
    const bar = store?.tail(view.period);
    return bar ? formatCountdown(bar.t + view.period - page.link.now()) : null;
  }

  function barsInView({ scene, store }) {
    if (!scene?.store) return 0;
    const own = scene.parts[scene.parts.length - 1];
    const n = own.spans.reduce((sum, { i0, i1 }) => sum + i1 - i0, 0);
    return n + (store.tail(scene.rung) ? 1 : 0);
  }

  function blocks({ market, scene }) {
    if (!market || !scene?.store) return { held: 0, bytes: 0, missing: 0 };
    const held = [...market.store.blocks()].length;
    const [needs] = market.needs.get(chart())?.levels ?? [[]];
    const missing = needs.reduce((n, { rung, k0, k1 }) => n + market.store.missing(rung, k0, k1, []).length, 0);
    return { held, bytes: page.cache.bytes, missing };
  }

  /** Bars of the period (or of `rung`) in [t0, t1), the forming one included: a copy. */
  function bars(t0, t1, rung = chart().view.period) {
    const { store } = chart();
    const out = [];
    store.visit(rung, t0, t1, (b, i0, i1) => {
      for (let i = i0; i < i1; i += 1) out.push({ t: b.t[i], o: b.o[i], h: b.h[i], l: b.l[i], c: b.c[i], v: b.v[i] });
    });
    const tail = store.tail(rung);
    if (tail && tail.t >= t0 && tail.t < t1) out.push({ ...tail });
    return out;
  }

  /** Device px of the centre of the bar that opens at `t`, and of `price`. */
  function xy(t, price) {
    const { view, cssW, scene } = chart();
    const slot = Math.floor(posOf(t, view.period));
    return { x: Math.round(xOf(view, cssW, slot + 0.5) * scene.g.dpr - scene.g.h / 2), y: Math.round(scene.y(price)) };
  }

  /** What stands at device px (x, y). */
  function at(x, y) {
    const { view, cssW, scene, store } = chart();
    const t = timeOf(Math.floor(posAt(view, cssW, x / scene.g.dpr)), view.period);
    return { t, price: scene.price(y), bar: store.barAt(view.period, t), line: lineAt(x / scene.g.dpr, y / scene.g.dpr) };
  }

  /** The oid of the line under css px (x, y); null without one. */
  function lineAt(x, y) {
    const box = chart().el.getBoundingClientRect();
    const spec = chart().lines.specOf(document.elementFromPoint(box.left + x, box.top + y));
    return spec ? spec.row?.oid ?? spec.key : null;
  }

  const read = (name) => name.split('.').reduce((value, key) => value?.[key], facts());

  /** Resolves with the fact once it equals `value` (or once `value(fact)` is true). */
  function when(name, value) {
    return new Promise((resolve) => {
      const check = () => {
        const fact = read(name);
        if (!(typeof value === 'function' ? value(fact) : fact === value)) return;
        waiting.delete(check);
        clearInterval(check.timer);
        resolve(fact);
      };
      waiting.add(check);
      check.timer = setInterval(check, 50);
      check();
    });
  }

  const ready = when('bars_in_view', (n) => n > 0).then(() => page.loop.paintedOnce());
  const pixel = (x, y) => [...chart().ctx.getImageData(x, y, 1, 1).data];
  window.piker = Object.freeze({ debug: Object.freeze({ ready, facts, bars, xy, at, when, pixel,
    painted: () => page.loop.paintedOnce(), get state() {
      return page.link.state;
    } }) });
}
