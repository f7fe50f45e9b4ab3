// The top bar: market and mark, periods, last and change, bid, ask and spread, tools, feed pill.

import { button, el, setText, show } from './dom.js';
import { periodName } from './ladder.js';
import { formatDuration, formatPercent, formatPrice, formatWait } from './num.js';
import { toneOf } from './live.js';

export const PERIODS = [1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800];
const THUMB_PERIODS = [60, 300, 900, 3600, 14400, 86400];
const WORDS = { connecting: 'connecting', live: 'live', late: 'late', stale: 'stale', refused: 'stale', down: 'stale', closed: 'closed' };
const DOTS = { live: 'up-state', late: 'warn-state', stale: 'warn-state', refused: 'warn-state', down: 'down-state' };

export class Header {
  /** `act` = {search, help, details, period(seconds)}. */
  constructor(root, thumb, act) {
    this.symbol = el('span', 'symbol');
    this.venue = el('span', 'venue');
    this.mark = el('span', 'mark hidden');
    this.account = el('span', 'mark paper', 'PAPER');
    this.periods = new Map();
    this.last = el('span', 'last');
    this.change = el('span', 'change');
    this.figures = ['bid', 'ask', 'spread'].map((name) => {
      const value = el('b', name === 'spread' ? 'strong' : '');
      return { name, value, node: el('span', name, `${name} `, [value]) };
    });
    this.pill = button('pill hidden', '', act.details, 'Feed details');
    this.dot = el('span', 'dot');
    [this.word, this.number] = [el('span', 'word'), el('span', 'number')];
    this.pill.append(this.dot, this.word, this.number);
    const tools = [['Search', '/', act.search], ['Keys', '?', act.help]].map(([name, key, run]) => {
      const tool = button('tool', '', run, name);
      tool.append(el('span', '', name), el('kbd', '', key));
      return tool;
    });
    const quotes = el('div', 'figures quotes', '', this.figures.map(({ node }) => node));
    this.root = root;
    root.append(el('div', 'market', '', [this.symbol, this.venue, this.mark, this.account]), el('div', 'rule'),
      this.buttons('periods', PERIODS, act.period), el('div', 'rule'), this.last, this.change, el('div', 'rule'), quotes,
      el('div', 'push', '', [...tools, this.pill]));
    thumb.append(...this.buttons('', THUMB_PERIODS, act.period).children, button('push', 'Search', act.search));
  }

  buttons(id, periods, act) {
    const box = el('div');
    if (id) box.id = id;
    for (const period of periods) {
      const node = button('', periodName(period), () => act(period), `Period ${periodName(period)}`);
      node.setAttribute('aria-pressed', 'false');
      this.periods.set(node, period);
      box.append(node);
    }
    return box;
  }

  /** Shows the focused chart. */
  update(chart) {
    const { market } = chart;
    const info = market?.info;
    const name = info?.name || market?.fqme.split('.')[0].toUpperCase() || 'piker';
    setText(this.symbol, name);
    setText(this.venue, info?.venue || '');
    const mode = (market?.book.mode || 'paper').toUpperCase();
    setText(this.account, mode);
    if (this.account.className !== `mark ${mode.toLowerCase()}`) this.account.className = `mark ${mode.toLowerCase()}`;
    // LOCAL stands beside it; a venue's own word for the account is the account's to say.
    show(this.mark, info?.mark === 'LOCAL');
    if (info?.mark) {
      setText(this.mark, info.mark);
      this.mark.className = `mark ${info.mark.toLowerCase()}`;
    }
    for (const [node, period] of this.periods) node.setAttribute('aria-pressed', String(period === chart.view.period));
    this.writePrices(chart, market);
    this.writePill(chart, market);
    const last = info && market.store.l1 ? `${formatPrice(market.store.l1.last, market.digits)} ${name}` : name;
    if (document.title !== last) document.title = last;
  }

  writePrices(chart, market) {
    const l1 = market?.store.l1;
    this.root.classList.toggle('grey', Boolean(market?.isStale || l1?.held));
    for (const node of [this.last, this.change, ...this.figures.map((figure) => figure.node)]) show(node, Boolean(l1));
    if (!l1 || !chart.scene?.store) return;
    const tone = toneOf(chart.scene, null) === chart.scene.colors.up ? 'up' : 'down';
    setText(this.last, formatPrice(l1.last, market.digits));
    this.last.className = `last ${tone}`;
    const change = l1.sessionOpen > 0 ? l1.last / l1.sessionOpen - 1 : NaN;
    setText(this.change, formatPercent(change));
    this.change.className = `change ${change >= 0 ? 'up' : 'down'}`;
    const [bid, ask, spread] = this.figures;
    setText(bid.value, formatPrice(l1.bid, market.digits));
    setText(ask.value, formatPrice(l1.ask, market.digits));
    [bid.value.className, ask.value.className] = ['up', 'down'];
    const ticks = Math.round((l1.ask - l1.bid) / market.tick);
    setText(spread.value, Number.isFinite(ticks) ? `${ticks} tick${ticks === 1 ? '' : 's'}` : '–');
  }

  writePill(chart, market) {
    const { link } = chart.page;
    show(this.pill, Boolean(market));
    if (!market) return;
    const isLost = link.state === 'lost' || link.state === 'refused';
    const feed = isLost ? 'offline' : market.status.feed;
    setText(this.word, isLost ? 'offline' : WORDS[feed] || feed);
    let number = '';
    if (feed === 'live' && Number.isFinite(market.status.latency_ms)) {
      number = `${Math.max(1, Math.round(market.status.latency_ms + link.halfTripMs))} ms`;
    } else if (!isLost && ['late', 'stale', 'refused', 'down'].includes(feed)) {
      number = feed === 'late' ? formatDuration(market.age) : formatWait(market.age);
    }
    setText(this.number, number);
    show(this.number, Boolean(number));
    this.dot.className = `dot ${isLost ? 'down-state' : DOTS[feed] || ''}`;
    const ring = isLost || feed === 'down' ? 'offline' : ['stale', 'refused'].includes(feed) ? 'stale' : '';
    this.pill.className = `pill ${ring}`;
  }
}
