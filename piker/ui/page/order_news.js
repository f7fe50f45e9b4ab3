// What the EMS says of orders, turned into sentences, sounds and shaking lines; each is told once.

import { BASE, WORDS } from './loop.js';
import { formatLevel, formatSize, isWorking, levelText, sideWords, sizeText } from './order_words.js';

const OPS = ['desk', 'allocst', 'sized', 'orders', 'ordst', 'fill', 'fills', 'pos', 'count'];
export const ORDER_REQUESTS = ['trade', 'order', 'amend', 'cancel', 'cancel_all', 'size', 'alloc', 'flatten', 'kill', 'arm'];
const PICTURE = ['orders', 'ordst', 'fill', 'fills'];

export const isOrderNews = (op) => OPS.includes(op);

export class OrderNews {
  constructor(orders) {
    this.orders = orders;
    this.group = null;
  }

  take(market, message) {
    const { orders } = this;
    if (message.op === 'ordst') this.shake(market, message);
    const said = market.book.take(message);
    if (message.id) orders.answered(message.id);
    this[`${message.op}Told`]?.(market, said);
    orders.changed(market, PICTURE.includes(message.op) ? BASE | WORDS : WORDS);
  }

  words(market, row) {
    const size = sizeText(row);
    const level = levelText(row);
    return `${sideWords(row)}${size && ` ${size}`}${level ? ` at ${formatLevel(level, market.digits)}` : ''}`;
  }

  each(market, act) {
    for (const chart of this.orders.page.layout.charts) if (chart.market === market) act(chart.lines);
  }

  shake(market, row) {
    if (row.refused === 'amend') this.each(market, (lines) => lines.shake(`${row.oid}:ghost`));
    else if (row.state === 'error') this.each(market, (lines) => lines.shake(row.oid));
  }

  ordstTold(market, { row, before }) {
    const { orders } = this;
    orders.amend.heard(row);
    const words = this.words(market, row);
    if (row.refused) {
      const what = { amend: 'Change refused', cancel: 'Cancel refused' }[row.refused] || 'Refused';
      orders.refuse(`${what}: ${words}: ${row.reason || 'no reason was given'}`);
      if (row.state === 'error') orders.notices.tell('error', `${market.fqme}: ${words} refused: ${row.reason}`);
    } else if (row.gone) this.gone(market, row, words);
    else if (row.state !== before?.state && ['open', 'dark_open'].includes(row.state)) {
      orders.say(before?.state === 'amend_in_flight' ? `changed: ${words}` : `${row.state === 'open' ? 'open' : 'held'}: ${words}`);
    }
    if (row.gone) this.countDown(row);
  }

  gone(market, row, words) {
    const { notices } = this.orders;
    if (row.action === 'alert' && row.state === 'triggered') {
      this.orders.say(`alert: ${market.fqme} at ${formatLevel(levelText({ ...row, state: '' }), market.digits)}`);
      notices.tell('alert', `${market.fqme} reached ${levelText({ ...row, state: '' })}`);
    } else if (row.state === 'closed') {
      this.orders.say(`done: ${words}${row.avg ? ` (average ${formatLevel(row.avg, market.digits)})` : ''}`);
      notices.tell('closed', `${market.fqme}: ${words} is done`);
    } else if (row.state === 'canceled' && !this.group?.oids.has(row.oid)) {
      this.orders.say(`cancelled: ${words}${row.reason ? `: ${row.reason}` : ''}`);
    } else if (row.state === 'error') {
      this.orders.refuse(`${words}: ${row.reason || 'ended with an error'}`);
      notices.tell('error', `${market.fqme}: ${words}: ${row.reason}`);
    }
  }

  fillTold(market, { fill, fresh }) {
    if (!fresh) return;
    const words = `${fill.action === 'buy' ? 'bought' : 'sold'} ${formatSize(fill.size)} at ${formatLevel(fill.price, market.digits)}`;
    this.orders.say(fill.late ? `${words} (told late)` : words);
    this.orders.notices.tell('fill', `${market.fqme}: ${words}`);
  }

  /** `cancelling 5`, counted down to `cancelled 5`. */
  countTold(market, { count: { asked } }) {
    const oids = new Set(market.book.working().map(({ oid }) => oid));
    this.group = asked ? { asked, oids, left: asked } : null;
    this.orders.say(asked ? `cancelling ${asked}` : 'Nothing to cancel.', asked ? 60 : 10);
  }

  countDown(row) {
    const { group } = this;
    if (!group?.oids.delete(row.oid)) return;
    group.left -= 1;
    if (group.left > 0) this.orders.say(`cancelling ${group.left}`, 60);
    else {
      this.orders.say(`cancelled ${group.asked}`);
      this.group = null;
    }
  }

  sizedTold(market, { sized }) {
    const { stage } = this.orders;
    if (stage?.chart.market !== market || stage.isPinned) return;
    if (sized.side === stage.action && sized.price === stage.price && sized.steps === stage.steps) stage.sized = sized;
  }

  deskTold(market, { desk, before }) {
    const { orders } = this;
    if (orders.stage?.chart.market === market) orders.staging.retitle();
    if (desk.note && desk.note !== before?.note) orders.say(desk.note, 30);
    if (!before) return;
    if (desk.killed && !before.killed) orders.refuse(desk.killed);
    else if (before.killed && !desk.killed) orders.say('Orders pass again.');
    else if (desk.state !== before.state && ['lost', 'refused'].includes(desk.state)) orders.refuse(desk.text || `Orders: ${desk.state}.`);
    else if (desk.state === 'ready' && before.state === 'lost') orders.say('Orders: connected again.');
  }

  /** Orders that were working before the connection was lost and are not any more. */
  ordersTold(market, { lost }) {
    if (this.orders.amend.state?.isSent) this.orders.amend.state = null;
    for (const row of lost) {
      this.orders.refuse(`${this.words(market, row)} is not working any more: it ended, or was never taken, while the connection was lost. Fills tell.`);
    }
  }

  refused(market, message) {
    const { orders } = this;
    const asked = orders.answered(message.id);
    const isForAmend = message.re === 'amend' && orders.amend.state?.id === message.id;
    if (message.code === 'confirm' && asked) {
      this.confirm(market, message, asked);
      return;
    }
    if (isForAmend) {
      this.each(market, (lines) => lines.shake(`${message.oid}:ghost`));
      orders.amend.undo();
    }
    if (message.re === 'order' && message.oid) {
      this.each(market, (lines) => lines.shake(message.oid));
      market.book.dropLocal(message.oid);
    }
    if (message.re !== 'size') orders.refuse(message.text);
    orders.changed(market, BASE | WORDS);
  }

  /** The desk wants a second key for this one: nothing was sent yet. */
  confirm(market, message, { op, fields }) {
    const { orders } = this;
    const row = market.book.rows.get(message.oid) || fields;
    const drop = () => {
      market.book.dropLocal(message.oid);
      if (op === 'amend') orders.amend.undo();
      orders.say('Dropped: nothing was sent.');
      orders.changed(market, BASE | WORDS);
    };
    orders.ceremony.ask(`${op === 'amend' ? 'change ' : ''}${this.words(market, isWorking(row) ? row : fields)}`, () => {
      if (op === 'amend') orders.amend.send({ ...fields, confirmed: true });
      else if (!orders.request(op, { ...fields, confirmed: true })) drop();
    }, drop);
  }
}
