// What floats over one plot: banner, loading card, notes, and the `now` and `auto` chips.
// Nothing here shifts the plot: a shift under the pointer misplaces a click.

import { button, el, setText, show } from './dom.js';
import { clockText, stampText } from './cal.js';
import { periodWords } from './ladder.js';
import { formatCount, formatDuration, formatWait } from './num.js';

const QUIET_MS = 300;
const GIVE_UP_S = 60;
const OFTEN_S = 0.1;

export class Cards {
  constructor(chart) {
    this.chart = chart;
    this.since = performance.now();
    this.bannerText = el('b');
    this.bannerMore = el('span');
    this.banner = el('div', 'banner hidden', '', [el('span', 'dot warn-state'), this.bannerText, this.bannerMore]);
    this.title = el('b');
    this.share = el('span');
    this.progress = el('progress');
    this.progress.max = 1;
    this.lines = [el('div'), el('div'), el('div', '', 'You can pan while it loads.')];
    this.card = el('div', 'card hidden', '', [el('div', 'row', '', [this.title, this.share]), this.progress, ...this.lines]);
    this.note = el('div', 'note hidden');
    this.now = button('chip hidden', '', () => chart.intents.now());
    this.auto = button('chip hidden', 'auto', () => chart.intents.autoY(), 'Automatic price range');
    this.overlays = el('div', 'overlay-chips');
    this.shown = '';
    this.stopped = el('div', 'stopped hidden');
    chart.el.append(this.stopped, this.banner, this.card, this.note, this.now, this.auto, this.overlays);
  }

  update() {
    const { market } = this.chart;
    this.loading(market?.load);
    this.writeBanner(market);
    this.writeNote(market);
    this.writeStopped(market);
    this.chips();
    this.overlayChips();
    this.chart.el.classList.toggle('lost', Boolean(this.chart.store?.dimmed) || this.chart.page.link.state === 'lost');
  }

  loading(load) {
    show(this.card, Boolean(load) && load.total > 0);
    if (!load) return;
    const share = load.have / Math.max(1, load.total);
    setText(this.title, `Loading ${periodWords(load.period)} history`);
    setText(this.share, `${Math.floor(share * 100)} %`);
    this.progress.value = share;
    setText(this.lines[0], `${formatCount(load.have)} of ${formatCount(load.total)} bars, newest first`);
    const parts = [load.source || 'history'];
    if (load.budget !== null && load.budget !== undefined) parts.push(`request budget ${Math.round(load.budget * 100)} %`);
    if (load.eta !== null && load.eta !== undefined) parts.push(`about ${formatWait(load.eta)} left`);
    setText(this.lines[1], parts.join(', '));
  }

  writeBanner(market) {
    const words = this.bannerWords(market);
    show(this.banner, Boolean(words));
    if (!words) return;
    setText(this.bannerText, words[0]);
    setText(this.bannerMore, words[1]);
    const isBad = words[2] === 'bad';
    this.banner.classList.toggle('bad', isBad);
    this.banner.firstChild.className = `dot ${isBad ? 'down-state' : 'warn-state'}`;
  }

  /** [what, more, 'bad' or ''] of the banner; null when all is well. */
  bannerWords(market) {
    const { link } = this.chart.page;
    if (link.state === 'lost') {
      if (link.lostFor > GIVE_UP_S) return ['Lost the chart process.', `Start it again: piker chart ${market?.fqme || ''}`, 'bad'];
      const wait = Math.ceil(link.retryIn);
      return ['Lost the chart process.', wait > 0 ? `Trying again in ${wait} s.` : 'Trying again.', 'bad'];
    }
    if (!market) return null;
    const { status } = market;
    const broker = market.fqme.split('.').pop();
    if (status.feed === 'refused') return [status.cause || `${broker} refuses`, '', ''];
    if (status.feed !== 'stale' && status.feed !== 'down') return null;
    if (status.feed === 'down') return [status.cause || `No connection to ${broker}`, this.nextTry(status), 'bad'];
    const more = [];
    if (status.expected) more.push(status.expected < OFTEN_S ? 'expected several a second' : `expected every ${formatDuration(status.expected)}`);
    const next = this.nextTry(status);
    if (next) more.push(next);
    else if (status.cause) more.push(status.cause);
    return [`No data from ${broker} for ${formatWait(market.age)}`, more.join(' · '), ''];
  }

  nextTry(status) {
    const parts = [];
    if (status.attempt > 0) parts.push(`reconnecting, attempt ${status.attempt}`);
    if (status.retry_in > 0) parts.push(`next in ${formatWait(status.retry_in)}`);
    return parts.join(', ');
  }

  /** The red bar while the kill switch is on. */
  writeStopped(market) {
    const text = market?.book.killed || '';
    show(this.stopped, Boolean(text));
    if (text) setText(this.stopped, text);
  }

  writeNote(market) {
    const text = this.noteText(market);
    show(this.note, Boolean(text));
    if (text) setText(this.note, text);
  }

  noteText(market) {
    const { link } = this.chart.page;
    if (!market) return '';
    if (market.error) return '';
    if (!market.info) {
      if (performance.now() - this.since < QUIET_MS || link.state !== 'open') return '';
      return market.status.cause || this.chart.page.tree.cause || `Starting datad.${market.fqme.split('.').pop()}…`;
    }
    const { status, store } = market;
    if (status.feed === 'closed') {
      return status.opens ? `closed, opens ${stampText(status.opens, this.chart.tz, 60, link.now())}` : 'closed';
    }
    const hasNone = !market.load && store.tails.size === 0 && store.first['60'] === null && store.first['1'] === null;
    return hasNone ? `No history from this venue; recording since ${clockText(link.now(), this.chart.tz)}.` : '';
  }

  chips() {
    const { chart } = this;
    const { scene, view } = chart;
    const isAway = Boolean(scene?.store) && !view.follow;
    show(this.now, isAway);
    show(this.auto, Boolean(scene?.store) && !view.autoY);
    if (!scene) return;
    const { g } = scene;
    const foot = (g.hgt - g.plotH) / g.dpr;
    if (isAway) {
      setText(this.now, `now · ${formatCount(chart.behind)} bars`);
      this.now.style.right = `${(g.w - g.plotW) / g.dpr + 10}px`;
      this.now.style.bottom = `${foot + 10}px`;
    }
    if (!view.autoY) {
      this.auto.style.right = '10px';
      this.auto.style.bottom = `${foot + 6}px`;
    }
  }

  /** One chip per overlaid market in its colour; a click takes it away. */
  overlayChips() {
    const { chart } = this;
    const names = chart.overlays.map((market) => market.info?.name || market.fqme);
    const key = [...names, chart.page.theme.name].join();
    if (key === this.shown) return;
    this.shown = key;
    this.overlays.replaceChildren(...chart.overlays.map((market, i) => {
      const chip = button('chip', '', () => chart.dropOverlay(market), `Remove ${market.fqme}`);
      const name = el('span', '', names[i]);
      name.style.color = chart.page.theme.colors[`overlay${1 + (i % 6)}`];
      chip.append(name, el('span', '', '×'));
      return chip;
    }));
  }
}
