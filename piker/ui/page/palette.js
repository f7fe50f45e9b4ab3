// The search box: hits by section as they come, moved through and opened by keyboard or pointer.

import { el, show } from './dom.js';
import { digitsOf, formatCount, formatPercent, formatPrice } from './num.js';

const LAST_KEY = 'piker.last';
const LAST_MAX = 5;
const LAST_USED = 'Last used';
const PHRASES = [['↵', 'open'], ['shift ↵', 'overlay'], ['↑ ↓', 'move'], ['ctrl d', 'next section'], ['esc', 'close']];

/** The markets used last, newest first. */
export function lastUsed() {
  try {
    const held = JSON.parse(localStorage.getItem(LAST_KEY) || '[]');
    return Array.isArray(held) ? held.filter((fqme) => typeof fqme === 'string').slice(0, LAST_MAX) : [];
  } catch {
    return [];
  }
}

export function remember(fqme) {
  const held = [fqme, ...lastUsed().filter((other) => other !== fqme)].slice(0, LAST_MAX);
  try {
    localStorage.setItem(LAST_KEY, JSON.stringify(held));
  } catch {
    // A browser that keeps nothing: the list is only a convenience.
  }
}

export class Palette {
  /** `act` = {search(id, text), open(fqme, isOverlay), closed()}. */
  constructor(act) {
    this.act = act;
    this.id = 0;
    this.recent = [];
    this.sections = new Map();
    this.hits = [];
    this.chosen = 0;
    this.input = el('input');
    Object.assign(this.input, { type: 'text', spellcheck: false, autocomplete: 'off', placeholder: 'Type a symbol.' });
    this.input.setAttribute('role', 'combobox');
    this.input.setAttribute('aria-label', 'Search markets');
    this.input.setAttribute('aria-expanded', 'true');
    this.list = el('div', 'list');
    this.list.setAttribute('role', 'listbox');
    const foot = el('div', 'foot', '', PHRASES.map(([keys, word]) => el('span', '', '', [
      ...keys.split(' ').map((key) => el('kbd', '', key)), word])));
    this.sheet = el('div', 'sheet palette', '', [this.input, this.list, foot]);
    this.veil = el('div', 'veil hidden', '', [this.sheet]);
    document.body.append(this.veil);
    this.input.addEventListener('input', () => this.ask());
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.veil.addEventListener('pointerdown', (event) => {
      if (event.target === this.veil) this.close();
    });
  }

  get isOpen() {
    return !this.veil.classList.contains('hidden');
  }

  /** Opens, with `said` above the list (an unknown market) and `closest` as first hits. */
  open(said = '', closest = []) {
    this.said = said;
    show(this.veil, true);
    this.input.value = '';
    this.sections.clear();
    const rows = (closest.length ? closest : this.lastUsed()).map((fqme) => ({ fqme, name: '' }));
    this.sections.set(closest.length ? 'Closest' : LAST_USED, { state: 'done', rows });
    this.chosen = 0;
    this.draw();
    this.input.focus();
  }

  /** What this browser opened, then what any chart did: a new window has nothing of its own. */
  lastUsed() {
    return [...new Set([...lastUsed(), ...this.recent])].slice(0, LAST_MAX);
  }

  close() {
    if (!this.isOpen) return;
    show(this.veil, false);
    this.act.closed();
  }

  ask() {
    this.id += 1;
    this.said = '';
    this.chosen = 0;
    const text = this.input.value.trim();
    if (!text) {
      this.open();
      return;
    }
    this.fresh = true;
    this.act.search(this.id, text);
  }

  /** Takes one `hits` message; results of an older question are dropped. */
  take(hits) {
    if (hits.id !== this.id || !this.isOpen) return;
    if (this.fresh) this.sections.clear();
    this.fresh = false;
    this.sections.set(hits.section, hits);
    this.draw();
  }

  draw() {
    this.hits = [];
    const nodes = this.said ? [el('div', 'none', this.said)] : [];
    const order = [...this.sections].sort(([a], [b]) => (b === 'loaded') - (a === 'loaded'));
    for (const [name, section] of order) {
      const isOwn = name === 'loaded' || name === LAST_USED;
      if (!section.rows.length && section.state === 'done' && isOwn) continue;
      nodes.push(el('div', 'section', '', [el('span', '', name === 'loaded' ? 'Loaded' : name), el('span', '', note(section))]));
      section.rows.forEach((row, i) => {
        const node = this.hit(row, this.hits.length);
        this.hits.push({ row, node, isFirst: i === 0 });
        nodes.push(node);
      });
    }
    if (!this.hits.length && !this.said && this.input.value && !this.fresh) {
      const isOver = order.every(([, section]) => section.state !== 'searching');
      if (isOver) nodes.push(el('div', 'none', `No market matches "${this.input.value.trim()}".`));
    }
    this.list.replaceChildren(...nodes);
    this.choose(Math.min(this.chosen, Math.max(0, this.hits.length - 1)));
  }

  hit(row, index) {
    const change = row.change === null || row.change === undefined ? '' : formatPercent(row.change);
    const last = Number.isFinite(row.last) ? formatPrice(row.last, Math.max(2, digitsOf(row.last))) : '';
    const node = el('div', 'hit', '', [
      el('span', 'fqme', '', marked(row.fqme, this.input.value.trim().toLowerCase())), el('span', 'name', row.name || ''),
      el('span', 'last', last), el('span', `change ${row.change >= 0 ? 'up' : 'down'}`, change)]);
    node.setAttribute('role', 'option');
    node.id = `hit-${index}`;
    node.addEventListener('pointermove', () => this.choose(index));
    node.addEventListener('click', (event) => this.pick(index, event.shiftKey));
    return node;
  }

  choose(index) {
    this.chosen = index;
    this.hits.forEach(({ node }, i) => node.setAttribute('aria-selected', String(i === index)));
    this.input.setAttribute('aria-activedescendant', this.hits.length ? `hit-${index}` : '');
    this.hits[index]?.node.scrollIntoView({ block: 'nearest' });
  }

  pick(index, isOverlay) {
    const hit = this.hits[index];
    if (!hit) return;
    this.close();
    this.act.open(hit.row.fqme, isOverlay);
  }

  /** The first hit of the next (side 1) or previous section. */
  section(side) {
    const firsts = this.hits.map(({ isFirst }, i) => (isFirst ? i : -1)).filter((i) => i >= 0);
    const next = side > 0 ? firsts.find((i) => i > this.chosen) : firsts.filter((i) => i < this.chosen).pop();
    if (next !== undefined) this.choose(next);
  }

  key(event) {
    const step = (by) => this.hits.length && this.choose((this.chosen + by + this.hits.length) % this.hits.length);
    const { key, ctrlKey } = event;
    if (key === 'ArrowDown' || (ctrlKey && key === 'j')) step(1);
    else if (key === 'ArrowUp' || (ctrlKey && key === 'k')) step(-1);
    else if (ctrlKey && key === 'd') this.section(1);
    else if (ctrlKey && key === 'u') this.section(-1);
    else if (key === 'Enter') this.pick(this.chosen, event.shiftKey);
    else if (key === 'Escape') this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function note({ state, total, ms, text, rows }) {
  if (state === 'searching') return 'searching…';
  if (state === 'failed') return text || 'no answer';
  if (!Number.isFinite(ms)) return '';
  const n = total || rows.length;
  return `${formatCount(n)} match${n === 1 ? '' : 'es'}, ${Math.round(ms)} ms`;
}

/** The letters of `text` that were typed, marked. */
function marked(text, typed) {
  const at = typed ? text.indexOf(typed) : -1;
  if (at < 0) return [text];
  return [text.slice(0, at), el('em', '', text.slice(at, at + typed.length)), text.slice(at + typed.length)];
}
