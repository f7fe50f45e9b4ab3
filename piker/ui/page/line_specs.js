// Which lines one chart has and what stands on each: orders, their amends, the staged order, positions.
// Pure: from the order book and the order mode to plain objects; `lines.js` makes elements of them.
//
// A spec is {key, kind, row, level, tone, dash, filled, isHalf, isHatched, parts, tag, spoken, act, handles}. A part of the
// chip is [text, isSecret]: size, account and money are only shown when asked for (privacy).

import { OWN, formatLevel, formatMoney, formatSize, gainOf, isEntry, isMovable, isWorking, levelOf, levelText, looksOf, positionWords,
  sideWords, sizeText, spokenWords, unsigned } from './order_words.js';

const shown = (text) => [text, false];
const secret = (text) => [text, true];
const HANDLES = [['take_profit', '+tp'], ['stop_loss', '+sl']];

function slotWords(row, alloc) {
  const step = Number(alloc?.step);
  return step > 0 && row.account === alloc.account ? `${(Number(row.size) / step).toFixed(1)}x` : '';
}

function orderSpec(row, market, isAway) {
  const looks = looksOf(row, performance.now() - row.at);
  const { alloc } = market.book;
  const parts = [shown(sideWords(row))];
  if (sizeText(row)) parts.push(secret(sizeText(row)), secret(slotWords(row, alloc)));
  if (looks.words) parts.push(shown(looks.words));
  if (row.state === 'dark_open' && row.fires) parts.push(secret(`fires ${row.fires}`));
  if (row.client_ref && row.client_ref !== OWN) parts.push(shown(row.client_ref));
  if (alloc && alloc.accounts.length > 1) parts.push(secret(row.account));
  if (isAway) parts.push(shown('not connected'));
  const handles = isEntry(row) && isMovable(row) ? HANDLES.filter(([name]) => !row[name]) : [];
  return { ...looks, key: row.oid, kind: 'order', row, level: levelOf(row), parts: parts.filter(([text]) => text), filled: false,
    tag: formatLevel(levelText(row), market.digits), spoken: spokenWords(row, market.digits), act: 'Cancel', handles,
    isAlert: row.action === 'alert', isLeg: Boolean(row.parent) };
}

/** The dotted line of an amend: where it is being dragged to, or where it was sent to. */
function ghostSpec(row, market, amend) {
  const isOwn = amend?.row.oid === row.oid;
  const text = isOwn ? amend.level : row.asked_price;
  if (!text) return null;
  const name = isOwn && amend.what !== 'price' ? (amend.what === 'take_profit' ? 'take profit' : 'stop loss') : 'amend';
  const parts = [shown(isOwn && !amend.isSent ? name : `${name} → sent`)];
  if (isOwn && amend.isKeyed && !amend.isSent) parts.push(shown('enter sends'));
  return { key: `${row.oid}:ghost`, kind: 'ghost', row, level: Number(text), tone: 'pending', dash: false, filled: false, isHalf: false,
    isHatched: false, parts, tag: formatLevel(text, market.digits), spoken: '', act: '', handles: [] };
}

function positionSpec(position, market, last) {
  const gain = gainOf(position, last);
  const parts = [shown(positionWords(position)), secret(formatSize(unsigned(position.size))), secret(`${position.slots}x`)];
  if (Number.isFinite(gain)) parts.push(secret(formatMoney(gain, position.quote, 'gain')));
  if (market.book.alloc?.accounts.length > 1) parts.push(secret(position.account));
  return { key: `pos:${position.account}`, kind: 'position', position, level: Number(position.avg), tone: 'accent', dash: false, filled: false,
    isHalf: false, isHatched: false, parts, tag: formatLevel(position.avg, market.digits), handles: [], act: 'Close position',
    spoken: `${positionWords(position)} ${formatSize(unsigned(position.size))} at ${formatLevel(position.avg, market.digits)}` };
}

function stagedSpec(stage, market) {
  const { sized } = stage;
  const parts = [shown(stage.name)];
  if (stage.action !== 'alert') {
    parts.push(shown(sized ? formatSize(sized.size) || 'no size' : '…'));
    if (sized?.size) parts.push(shown(`${sized.share}x`), shown(`~ ${formatMoney(Number(sized.fiat), market.book.alloc?.quote)}`));
  }
  if (stage.take_profit) parts.push(shown(`tp ${formatLevel(stage.take_profit, market.digits)}`));
  if (stage.stop_loss) parts.push(shown(`sl ${formatLevel(stage.stop_loss, market.digits)}`));
  if (stage.wait) parts.push(shown(`enter sends · ${stage.wait}`));
  const isDark = !stage.isLive && stage.action !== 'alert';
  return { key: 'staged', kind: 'staged', row: null, level: Number(stage.price), tone: stage.action, dash: isDark, filled: true,
    isHalf: false, isHatched: false, parts, tag: formatLevel(stage.price, market.digits), spoken: '', act: '',
    handles: stage.isPinned && stage.action !== 'alert' ? HANDLES : [] };
}

/** The lines of `chart`: those of its market's book, and what the order mode adds on this chart. */
export function lineSpecs(chart) {
  const { market, page } = chart;
  if (!market?.book) return [];
  const { book } = market;
  const { stage, amend } = page.orders;
  const isLost = page.link.state === 'lost' || page.link.state === 'refused';
  const out = [];
  for (const row of book.rows.values()) {
    if (!isWorking(row)) continue;
    const isAway = isLost || book.desks.get(row.mode)?.state === 'lost';
    const spec = orderSpec(row, market, isAway);
    if (Number.isFinite(spec.level)) out.push(spec);
    const ghost = ghostSpec(row, market, amend.state);
    if (ghost) out.push(ghost);
  }
  for (const position of book.held()) out.push(positionSpec(position, market, market.store.l1?.last));
  if (stage?.chart === chart && stage.price) out.push(stagedSpec(stage, market));
  return out;
}
