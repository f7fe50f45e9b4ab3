// What is said and shown of an order in each of its states (chart.md 8): tone, stroke and words.
// Pure. Amounts are decimal text end to end; numbers are only made where a picture needs them.

import { MINUS, digitsOf, formatPrice, group } from './num.js';

export const OWN = 'chart';
const MONEY_DIGITS = 2;
const SMALL_DIGITS = 4;
const NOT_WORKING = ['closed', 'canceled', 'error'];
const LEGS = { take_profit: 'take profit', stop: 'stop loss' };
const TYPES = { stop: 'stop', take_profit: 'take profit', market: 'market' };

/** Decimal text in groups of three with a true minus, without trailing zeros; '' stays ''. */
export function formatSize(text) {
  if (text === '' || text === undefined || text === null) return '';
  const plain = String(text);
  const [whole, fraction = ''] = plain.replace(/^[+-]/, '').split('.');
  const rest = fraction.replace(/0+$/, '');
  return (plain.startsWith('-') ? MINUS : '') + group(whole) + (rest ? `.${rest}` : '');
}

/** A price of a message at the market's digits. */
export const formatLevel = (text, digits) => formatPrice(Number(text), Math.max(digits, digitsOf(text)), true);

/** `$` for what is counted in dollars, else the asset's name. */
export const moneyUnit = (quote) => (/^USD/.test(quote || '') ? '$' : quote || '');

/** An amount of money with its unit: `style` 'gain' has a sign and cents, 'exact' cents, '' neither when round. */
export function formatMoney(value, quote, style = '') {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  const isSmall = size > 0 && size < 1 && moneyUnit(quote) !== '$';
  const digits = isSmall ? Math.min(12, SMALL_DIGITS - 1 - Math.floor(Math.log10(size))) : MONEY_DIGITS;
  const [whole, fraction] = size.toFixed(digits).split('.');
  const isZero = Number(size.toFixed(digits)) === 0;
  const sign = isZero ? '' : value < 0 ? MINUS : style === 'gain' ? '+' : '';
  return `${sign}${group(whole)}${style || Number(fraction) ? `.${fraction}` : ''} ${moneyUnit(quote)}`.trim();
}

/** Where the line of `row` stands: at the trigger until it fired, else at the price; NaN without one. */
export function levelOf(row) {
  const text = levelText(row);
  return text === '' ? NaN : Number(text);
}

export function levelText(row) {
  if (row.trigger_price && row.state !== 'triggered') return row.trigger_price;
  return Number(row.price) ? row.price : row.trigger_price || '';
}

/** The side of an order in a word or two: `buy`, `sell dark`, `take profit`, `alert`. */
export function sideWords(row) {
  if (row.action === 'alert') return 'alert';
  if (row.parent) return LEGS[row.order_type] || (Number(row.trigger_price) ? 'stop loss' : 'take profit');
  const type = TYPES[row.order_type] ? ` ${TYPES[row.order_type]}` : '';
  return `${row.action}${type}${row.exec_mode === 'dark' ? ' dark' : ''}`;
}

/** An order's size to show; '' for alerts, and for a leg whose entry has no fill yet. */
export const sizeText = (row) => (row.action === 'alert' || !Number(row.size) ? '' : formatSize(row.size));

export const isWorking = (row) => !row.gone && !NOT_WORKING.includes(row.state);

/** True when an amend or another cancel of the order makes sense now. */
export const isMovable = (row) => isWorking(row) && !row.isLocal && !['cancel_in_flight', 'unknown', 'triggered'].includes(row.state);

export const isEntry = (row) => row.action !== 'alert' && !row.parent && !row.reduce_only;

/** Share of an order that is filled, whole percent. */
export function filledShare(row) {
  const size = Number(row.size);
  return size > 0 ? Math.min(100, Math.floor((Number(row.filled || 0) / size) * 100 + 1e-9)) : 0;
}

const filledWords = (row) => (filledShare(row) > 0 ? `${filledShare(row)} % filled` : '');

/** How a line is drawn: {tone, dash, words, isHalf, isHatched}; `waited` is ms since it was sent. */
export function looksOf(row, waited = 0) {
  const side = row.action === 'alert' ? 'alert' : row.action;
  const dash = row.exec_mode === 'dark' && row.action !== 'alert';
  const looks = { tone: side, dash, words: filledWords(row), isHalf: false, isHatched: false };
  switch (row.state) {
    case 'submitting': case 'sent': case 'pending':
      return { ...looks, tone: 'pending', words: `sent ${Math.round(waited)} ms` };
    case 'amend_in_flight':
      return { ...looks, words: ['amend sent', looks.words].filter(Boolean).join(', ') };
    case 'triggered':
      return { ...looks, tone: 'pending', dash: false, words: 'triggered' };
    case 'cancel_in_flight':
      return { ...looks, tone: 'pending', isHalf: true, words: 'cancelling' };
    case 'unknown':
      return { ...looks, tone: 'warn', isHatched: true, words: 'unknown: asking the venue' };
    default:
      return looks;
  }
}

/** The state in words for the list of working orders and for who listens. */
export function stateWords(row) {
  const parts = [];
  const held = row.parent ? 'held only while piker runs' : 'in emsd';
  if (['submitting', 'sent', 'pending'].includes(row.state)) parts.push('sent, not acknowledged');
  else if (row.state === 'dark_open' && row.action === 'alert') parts.push('once', row.fires);
  else if (row.state === 'dark_open') parts.push(row.fires ? `${held}, fires ${row.fires}` : held);
  else if (row.state === 'unknown') parts.push('unknown: asking the venue');
  else if (row.state === 'amend_in_flight') parts.push('amend sent');
  else if (row.state === 'cancel_in_flight') parts.push('cancelling');
  else if (row.state === 'triggered') parts.push('triggered');
  else parts.push('open');
  if (filledShare(row) > 0) parts.push(`${filledShare(row)} % filled`);
  return parts.filter(Boolean).join(', ');
}

/** What a screen reader says of a line: "sell dark 0.01632 at 61 278.9, not acknowledged". */
export function spokenWords(row, digits) {
  const size = sizeText(row);
  return `${sideWords(row)}${size && ` ${size}`} at ${formatLevel(levelText(row), digits)}, ${stateWords(row)}`;
}

/** Gain of `position` at price `last`; NaN when unknown. */
export const gainOf = (position, last) => (Number(last) - Number(position.avg)) * Number(position.size);

export const positionWords = (position) => (Number(position.size) < 0 ? 'short' : 'long');

/** Sizes without their sign. */
export const unsigned = (text) => String(text).replace(/^-/, '');

/** A new order's name: 32 hexadecimal digits. */
export function newOid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
