// Small sheets: the feed's details behind the pill, the one-line entries, and the blocking card.

import { button, el, show } from './dom.js';
import { formatDuration } from './num.js';

/** Feed details: one line per fact, filled each time it is opened or a status arrives. */
export class Details {
  constructor() {
    this.sheet = el('div', 'sheet details hidden');
    this.sheet.setAttribute('role', 'dialog');
    this.sheet.setAttribute('aria-label', 'Feed details');
    this.veil = el('div', 'veil hidden', '', [this.sheet]);
    this.veil.addEventListener('pointerdown', (event) => {
      if (event.target === this.veil) this.close();
    });
    document.body.append(this.veil);
  }

  get isOpen() {
    return !this.veil.classList.contains('hidden');
  }

  toggle(chart) {
    show(this.veil, !this.isOpen);
    show(this.sheet, this.isOpen);
    this.update(chart);
  }

  close() {
    show(this.veil, false);
  }

  update(chart) {
    const { market } = chart;
    if (!this.isOpen || !market) return;
    const { status, info } = market;
    const { link } = chart.page;
    const gap = market.store.gaps[market.store.gaps.length - 1];
    const rows = [['market', market.fqme], ['feed', status.feed + (status.cause ? `: ${status.cause}` : '')]];
    if (info?.mark) rows.push(['account', `${info.mark}${status.local ? ` · ${status.local}` : ''}`]);
    if (Number.isFinite(status.latency_ms)) rows.push(['receive to page', `${(status.latency_ms + link.halfTripMs).toFixed(1)} ms`]);
    if (status.expected) rows.push(['expected every', formatDuration(status.expected)]);
    if (gap) rows.push(['last gap', `${gap.kind}, ${formatDuration(gap.t1 - gap.t0)}${gap.filled ? ', filled' : ''}`]);
    for (const [name, text] of Object.entries(status.feed_info || {})) rows.push([name, String(text)]);
    for (const { name, state, text } of status.daemons || []) rows.push([name, text || state]);
    this.sheet.replaceChildren(...rows.map(([name, text]) => el('div', '', '', [el('span', '', name), el('b', '', text)])));
  }
}

/** A one-line entry: `read(text)` returns '' when it took the text, else the sentence that says why not. */
export class Entry {
  constructor() {
    this.label = el('label');
    this.input = el('input');
    Object.assign(this.input, { type: 'text', spellcheck: false, autocomplete: 'off', id: 'entry' });
    this.label.htmlFor = 'entry';
    this.wrong = el('div', 'wrong');
    this.veil = el('div', 'veil hidden', '', [el('div', 'sheet entry', '', [this.label, this.input, this.wrong])]);
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.veil.addEventListener('pointerdown', (event) => {
      if (event.target === this.veil) this.close();
    });
    document.body.append(this.veil);
  }

  get isOpen() {
    return !this.veil.classList.contains('hidden');
  }

  open(label, text, read, closed) {
    this.read = read;
    this.closed = closed;
    this.label.textContent = label;
    this.wrong.textContent = '';
    show(this.veil, true);
    this.input.value = text;
    this.input.focus();
    if (text.length > 1) this.input.select();
  }

  close() {
    if (!this.isOpen) return;
    show(this.veil, false);
    this.closed();
  }

  key(event) {
    event.stopPropagation();
    if (event.key === 'Escape') this.close();
    if (event.key !== 'Enter') return;
    this.wrong.textContent = this.read(this.input.value);
    if (!this.wrong.textContent) this.close();
  }
}

/** The card that stands in for everything: a refused address, or a failure of the page itself. */
export class Block {
  constructor() {
    this.words = el('div');
    this.acts = el('div', 'acts');
    this.veil = el('div', 'veil hidden', '', [el('div', 'sheet blocked', '', [this.words, this.acts])]);
    document.body.append(this.veil);
  }

  show(text, acts = []) {
    this.words.textContent = text;
    this.acts.replaceChildren(...acts.map(([name, act]) => button('', name, act)));
    show(this.acts, acts.length > 0);
    show(this.veil, true);
  }

  hide() {
    show(this.veil, false);
  }
}
