// The order pane beside the charts: account and limits that sizes come from, the position and what it
// has made, working orders, and the button that stops everything.

import { button, el, setText, show } from './dom.js';
import { formatLevel, formatMoney, formatSize, gainOf, levelText, looksOf, moneyUnit, sideWords, sizeText, stateWords, unsigned, levelOf } from './order_words.js';

const WIDTH_CSS = 248;
const AXIS_CSS = 80;
const CELLS_MAX = 40;
const ROWS_MAX = 60;
const POSITION = ['size', 'average', 'break even', 'unrealised', 'realised today', 'fees today'];

function field(name, input) {
  input.setAttribute('aria-label', name);
  return el('label', 'field', '', [el('span', '', name), input]);
}

function select(options) {
  return el('select', '', '', options.map(([value, text]) => {
    const option = el('option', '', text);
    option.value = value;
    return option;
  }));
}

export class OrderPane {
  /** `orders` = the order mode; `focused()` = the chart whose market is shown. */
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.account = select([]);
    this.unit = select([]);
    [this.limit, this.slots] = [el('input'), el('input')];
    for (const input of [this.limit, this.slots]) Object.assign(input, { type: 'text', autocomplete: 'off', spellcheck: false });
    this.cells = el('div', 'cells');
    [this.used, this.step] = [el('b'), el('b')];
    this.notice = el('div', 'notice hidden');
    this.figures = new Map(POSITION.map((name) => [name, el('b')]));
    this.rows = el('div', 'working');
    this.stop = button('stop', 'stop all', () => this.stopOrArm());
    this.count = el('span');
    root.append(
      el('section', '', '', [el('h2', '', 'Order'), field('account', this.account), field('allocate', this.unit), field('limit', this.limit),
        field('slots', this.slots), this.cells, this.line('used', this.used), this.line('step', this.step), this.notice]),
      el('section', '', '', [el('h2', '', 'Position'), ...POSITION.map((name) => this.line(name, this.figures.get(name)))]),
      el('section', 'grow', '', [el('h2', '', 'Working'), this.rows]), el('section', 'foot', '', [this.stop]));
    this.listen();
  }

  line(name, value) {
    return el('div', 'figure', '', [el('span', '', name), value]);
  }

  listen() {
    this.account.addEventListener('change', () => this.change({ account: this.account.value }));
    this.unit.addEventListener('change', () => this.change({ unit: this.unit.value }));
    this.limit.addEventListener('change', () => this.change({ limit: this.limit.value.replace(/[^0-9.kKmMbB]/g, '') }));
    this.slots.addEventListener('change', () => this.changeSlots(this.slots.value));
    this.root.addEventListener('keydown', (event) => this.key(event));
  }

  key(event) {
    if (!event.target.closest('input, select')) return;
    if (event.key === 'Escape' || (event.key === 'c' && event.ctrlKey)) {
      this.shown = '';
      this.page.refocus();
      this.update();
    } else if (event.key === 'Enter' && event.target.matches('input')) event.target.blur();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  get market() {
    return this.page.focused.market;
  }

  get isOpen() {
    return !this.root.classList.contains('hidden');
  }

  toggle() {
    this.open(!this.isOpen);
  }

  open(isOpen) {
    show(this.root, isOpen);
    if (isOpen && this.market?.info) this.page.orders.turnOn(this.market);
    this.update();
  }

  /** Opens with order mode, unless it would come to lie under the pointer. */
  offer(chart) {
    if (this.isOpen || innerWidth <= 760 || this.page.layout.root.classList.contains('many')) return;
    const box = chart.el.getBoundingClientRect();
    if (!chart.cross.at?.y || chart.cross.at.x < box.width - WIDTH_CSS - AXIS_CSS) this.open(true);
  }

  change(fields) {
    const { market } = this;
    this.shown = '';
    if (market?.info) this.page.orders.request('alloc', { chan: market.chan, ...fields });
  }

  changeSlots(text) {
    const slots = Number(text);
    if (Number.isInteger(slots) && slots > 0) this.change({ slots });
    else {
      this.page.orders.refuse(`slots: was ${text}, expected a whole number above zero`);
      this.shown = '';
      this.update();
    }
  }

  stopOrArm() {
    const { orders } = this.page;
    if (!this.market?.info) return;
    if (this.market.book.killed) orders.arm(this.market);
    else orders.stopAll(this.market);
  }

  update() {
    if (!this.isOpen) return;
    const book = this.market?.book;
    this.root.classList.toggle('idle', !book?.alloc);
    const { desk } = book || {};
    const text = !desk || desk.state === 'ready' ? desk?.note || '' : desk.text || { off: 'Orders are off: hold f, d or a.', connecting: 'Connecting…' }[desk.state] || desk.state;
    setText(this.notice, text);
    show(this.notice, Boolean(text));
    setText(this.stop, book?.killed ? 'let orders pass again' : 'stop all');
    this.writeAlloc(book?.alloc, book);
    this.writePosition(book);
    this.writeRows(book);
  }

  writeAlloc(alloc, book) {
    const stage = this.page.orders.stage?.chart.market === this.market ? this.page.orders.stage : null;
    const staged = stage?.sized?.size ? { share: Number(stage.sized.share), action: stage.action } : null;
    const key = JSON.stringify([alloc, staged, this.market?.fqme]);
    if (!alloc || key === this.shown) return;
    this.shown = key;
    const holding = (size) => (Number(size) > 0 ? ' ▲' : Number(size) < 0 ? ' ▼' : '');
    this.fill(this.account, alloc.accounts.map(({ name, size }) => [name, name + holding(size)]), alloc.account);
    this.fill(this.unit, [['currency', `${moneyUnit(alloc.quote)} size`], ['units', `${alloc.base} units`]], alloc.unit);
    const unit = alloc.unit === 'currency' ? moneyUnit(alloc.quote) : alloc.base;
    if (document.activeElement !== this.limit) this.limit.value = `${formatSize(alloc.limit)} ${unit}`;
    if (document.activeElement !== this.slots) this.slots.value = alloc.slots;
    this.writeCells(alloc, staged, book);
    setText(this.used, `${alloc.used} of ${alloc.slots} slots`);
    const fiat = Number(alloc.step_fiat) ? ` ≈ ${formatMoney(Number(alloc.step_fiat), alloc.quote)}` : '';
    setText(this.step, Number(alloc.step) ? `${formatSize(alloc.step)} ${alloc.base}${fiat}` : '–');
  }

  fill(node, options, value) {
    const key = JSON.stringify(options);
    if (node.dataset.shown !== key) {
      node.dataset.shown = key;
      node.replaceChildren(...select(options).children);
    }
    node.value = value;
  }

  /** One cell a slot: filled by the position, hatched by what is staged. */
  writeCells(alloc, staged, book) {
    const n = Math.min(CELLS_MAX, alloc.slots);
    const each = alloc.slots / n;
    const used = Number(alloc.used) || 0;
    const side = Number(book.positions.get(alloc.account)?.size) < 0 ? 'sell' : 'buy';
    this.cells.replaceChildren(...Array.from({ length: n }, (_, i) => {
      const share = Math.max(0, Math.min(1, used / each - i));
      const isStaged = staged && i >= Math.round(used / each) && i < Math.round((used + staged.share) / each);
      const fill = el('i');
      fill.style.width = `${Math.round(share * 100)}%`;
      return el('span', `cell tone-${isStaged ? staged.action : side}${isStaged ? ' staged' : ''}`, '', [fill]);
    }));
  }

  writePosition(book) {
    const alloc = book?.alloc;
    const position = book?.positions.get(alloc?.account);
    const isHeld = position && Number(position.size) !== 0;
    const { digits, store } = this.market || {};
    const money = (text, style) => (text ? formatMoney(Number(text), position.quote, style) : '–');
    const gain = isHeld ? gainOf(position, store.l1?.last) : NaN;
    const other = Object.entries(position?.fees_other || {}).map(([asset, fee]) => ` + ${formatSize(fee)} ${asset}`).join('');
    const texts = {
      size: isHeld ? `${Number(position.size) < 0 ? 'short ' : ''}${formatSize(unsigned(position.size))} ${alloc.base}` : position ? 'flat' : '–',
      average: isHeld ? formatLevel(position.avg, digits) : '–',
      'break even': isHeld && position.break_even ? formatLevel(Number(position.break_even).toFixed(digits), digits) : '–',
      unrealised: isHeld && Number.isFinite(gain) ? formatMoney(gain, position.quote, 'gain') : '–',
      'realised today': position ? money(position.realised, 'gain') : '–', 'fees today': position ? money(position.fees, 'exact') + other : '–',
    };
    const tones = { unrealised: gain, 'realised today': Number(position?.realised) };
    for (const [name, node] of this.figures) {
      setText(node, texts[name]);
      const value = tones[name];
      node.className = value > 0 ? 'gain' : value < 0 ? 'loss' : '';
    }
  }

  writeRows(book) {
    const rows = (book?.working() || []).sort((a, b) => levelOf(b) - levelOf(a));
    const key = JSON.stringify(rows.map(({ at, ...row }) => [row, this.market.digits]));
    if (key === this.listed) return;
    this.listed = key;
    this.rows.replaceChildren(...rows.slice(0, ROWS_MAX).map((row) => this.row(row)),
      ...(rows.length > ROWS_MAX ? [el('div', 'more', `and ${rows.length - ROWS_MAX} more`)] : []),
      ...(rows.length ? [] : [el('div', 'more', 'none')]));
  }

  row(row) {
    const { tone } = looksOf(row);
    const level = levelText(row);
    const node = el('div', `order tone-${tone}`, '', [el('i'), el('span', '', sideWords(row)),
      el('b', '', level ? formatLevel(level, this.market.digits) : 'market'), el('em', '', stateWords(row)), el('em', 'size', sizeText(row))]);
    node.addEventListener('click', () => this.page.focused.lines.focus(row.oid));
    return node;
  }
}
