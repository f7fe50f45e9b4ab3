// Reads the code or the tab's secret, builds the parts of the page and connects their events.

import { BlockCache } from './cache.js';
import { Actions } from './actions.js';
import { Chart } from './chart.js';
import { Gestures } from './gestures.js';
import { Header } from './header.js';
import { Help } from './help.js';
import { Intents } from './intents.js';
import { Keys } from './keys.js';
import { Layout } from './layout.js';
import { Link } from './link.js';
import { BASE, CROSS, EDGE, Loop, WORDS } from './loop.js';
import { Markets } from './market.js';
import { Measure } from './measure.js';
import { OrderKeys } from './order_keys.js';
import { ORDER_REQUESTS, isOrderNews } from './order_news.js';
import { OrderPane } from './order_pane.js';
import { Orders } from './orders.js';
import { Palette, remember } from './palette.js';
import { Block, Details, Entry } from './pane.js';
import { StatusBar } from './status.js';
import { Theme } from './theme.js';
import { littleEndian } from './frames.js';
import { timeOf } from './ladder.js';

const SECRET_KEY = 'piker.secret';
const BUILD_KEY = 'piker.build';
const WORDS_MS = 100;
const MINUTE = 60;
const REFUSED = 'This address was used, is too old or belongs to an earlier run. Press Enter where piker chart runs to get a new one.';

/** The single-use code of the address; the fragment is wiped at once. */
function takeCode() {
  const code = new URLSearchParams(location.hash.slice(1)).get('c');
  if (location.hash) history.replaceState(null, '', location.pathname);
  return code;
}

class Page {
  constructor() {
    this.code = takeCode();
    this.prefs = {};
    this.tree = { cause: '', daemons: [] };
    this.theme = new Theme();
    this.loop = new Loop();
    this.cache = new BlockCache();
    this.block = new Block();
    this.link = new Link(`ws://${location.host}/ws`, () => this.credentials(), {
      welcome: (message) => this.welcome(message), control: (message) => this.control(message),
      frame: (frame) => this.markets.frame(frame), state: (state) => this.linkState(state), resync: () => this.markets.doubt(),
    }, () => this.markets.have());
    this.markets = new Markets(this.link, this.cache);
    const byId = (id) => document.getElementById(id);
    this.status = new StatusBar(byId('status'), byId('polite'), byId('alarm'));
    this.pointed = null;
    this.orders = new Orders(this);
    this.orderKeys = new OrderKeys(this.orders);
    this.side = new OrderPane(byId('side'), this);
    this.details = new Details();
    this.entry = new Entry();
    this.palette = new Palette({ search: (id, text) => this.link.send('search', { id, text }),
      open: (fqme, isOverlay) => this.openMarket(fqme, isOverlay), closed: () => this.refocus() });
    this.actions = new Actions(this);
    this.header = new Header(byId('header'), byId('thumb'), { search: () => this.actions.run('search'),
      help: () => this.actions.run('help'), details: () => this.details.toggle(this.focused),
      period: (period) => this.focused.intents.setPeriod(period) });
    this.layout = new Layout(byId('charts'), (like) => this.makeChart(like), (chart) => this.onWords(chart));
    this.layout.onDpr = () => this.theme.apply();
    this.layout.set('one');
    matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => this.retheme());
    setInterval(() => this.second(), 1000);
  }

  get focused() {
    return this.layout.focused;
  }

  credentials() {
    return { code: this.code, secret: sessionStorage.getItem(SECRET_KEY) };
  }

  start() {
    if (!littleEndian()) this.block.show('This computer stores numbers in an order the chart cannot read.');
    else this.link.open();
  }

  makeChart(like) {
    const chart = new Chart(this, like?.view.period || MINUTE);
    chart.intents = new Intents(chart);
    chart.measure = new Measure(chart);
    chart.gestures = new Gestures(chart, chart.measure);
    if (like?.market) chart.setMarket(like.market);
    return chart;
  }

  // ---- the link

  welcome(message) {
    if (message.secret) sessionStorage.setItem(SECRET_KEY, message.secret);
    this.code = null;
    this.block.hide();
    if (this.isOtherBuild(message.build)) return;
    this.prefs = message.prefs || {};
    this.palette.recent = message.recent || [];
    if (this.isWelcomed) {
      this.markets.openAll();
      return;
    }
    this.isWelcomed = true;
    if (this.prefs.theme && this.prefs.theme !== 'auto') this.theme.wanted = this.prefs.theme;
    this.retheme();
    this.keys = this.actions.bind(Keys, this.prefs.keys);
    this.help = new Help(this.keys.table);
    const [first, ...others] = message.charts;
    if (first) this.openMarket(first, false);
    else this.palette.open();
    for (const fqme of others) this.openMarket(fqme, true);
    if (message.debug) import('/debug.js').then(({ install }) => install(this));
  }

  /** A newer build of the page is there: reload once, never in a circle. */
  isOtherBuild(build) {
    const held = sessionStorage.getItem(BUILD_KEY);
    sessionStorage.setItem(BUILD_KEY, build);
    if (!held || held === build || !this.isWelcomed) return false;
    location.reload();
    return true;
  }

  linkState(state) {
    if (state === 'refused') {
      sessionStorage.removeItem(SECRET_KEY);
      this.block.show(REFUSED);
    }
    if (state === 'lost' && this.isWelcomed && this.lastState === 'open') this.status.say('Lost the chart process.');
    if (state === 'open' && this.lastState === 'lost') this.status.say('Connected again.', 4);
    this.lastState = state;
    if (!this.layout) return;
    this.layout.each(BASE | WORDS);
    this.writeWords();
  }

  control(message) {
    if (message.op === 'hits') this.palette.take(message);
    else if (message.op === 'code') this.status.say(`Address for another window: ${message.url}`, 60);
    else if (this.isAboutOrders(message)) this.orderNews(message);
    else if (message.op === 'err') this.refused(message);
    else if (!this.markets.control(message) && message.op === 'status') this.takeTree(message);
    if (message.op !== 'status') return;
    this.details.update(this.focused);
    this.writeWords();
  }

  isAboutOrders({ op, re }) {
    return isOrderNews(op) || (op === 'err' && ORDER_REQUESTS.includes(re));
  }

  orderNews(message) {
    const market = this.markets.byChan.get(message.chan);
    if (market) this.orders[message.op === 'err' ? 'refused' : 'take'](market, message);
  }

  /** The tree before a market is there: its daemons, and the step under way. */
  takeTree(message) {
    this.tree = message;
    this.layout.each(WORDS);
  }

  refused(message) {
    this.markets.control(message);
    this.status.say(message.text);
    if (message.re !== 'open' || message.code !== 'unknown_market') return;
    this.palette.open(message.text, message.closest || []);
  }

  // ---- markets

  openMarket(fqme, isOverlay) {
    remember(fqme);
    const market = this.markets.open(fqme);
    this.link.send('pick', { fqme, overlay: isOverlay });
    if (isOverlay && this.focused.market) this.focused.addOverlay(market);
    else this.focused.setMarket(market);
    if (!this.heard) this.heard = new WeakSet();
    if (!this.heard.has(market)) market.listeners.add((kind, data) => this.marketSaid(market, kind, data));
    this.heard.add(market);
  }

  /** Turns changes of feed and gaps into sentences of the status bar. */
  marketSaid(market, kind, data) {
    if (kind === 'status' && data.feed !== 'late' && data.feed !== market.saidFeed) {
      const words = data.feed === 'live' ? `${market.fqme} is live` : data.cause || `${market.fqme} is ${data.feed}`;
      if (market.saidFeed) this.status.say(words);
      market.saidFeed = data.feed;
    }
    if (kind === 'gap' && data.filled) this.status.say(this.actions.filledWords(data, market));
  }

  refocus() {
    this.focused.el.focus({ preventScroll: true });
  }

  // ---- what charts report

  onTail(chart) {
    if (chart === this.focused) this.onWords(chart);
  }

  /** Header and status bar follow the focused chart, ten times a second at most. */
  onWords(chart) {
    if (!chart || chart !== this.focused || this.wordsTimer) return;
    this.wordsTimer = setTimeout(() => this.writeWords(), document.hidden ? 1000 : WORDS_MS);
  }

  /** A change of state is written at once: pill, banner and picture never disagree. */
  writeWords() {
    clearTimeout(this.wordsTimer);
    this.wordsTimer = 0;
    this.header.update(this.focused);
    this.status.update(this.focused);
    this.writeOrders();
    this.loop.dirty(this.focused, WORDS);
  }

  /** Mode and pane follow the order mode. */
  writeOrders() {
    if (!this.layout) return;
    this.status.writeOrders(this.orders);
    this.side.update();
  }

  onPeriod(chart) {
    this.onWords(chart);
  }

  /** Linked charts show the same time. */
  onCross(chart) {
    for (const other of this.layout.charts) {
      if (other === chart) continue;
      const { slot } = chart.cross;
      const t = slot === null ? null : timeOf(slot, chart.view.period);
      other.cross.move(t === null ? null : { slot: Math.floor(other.posOfTime(t)) });
      this.loop.dirty(other, CROSS);
    }
  }

  retheme() {
    this.theme.apply();
    this.layout.each(BASE);
  }

  /** Once a second: countdown, ages, clock. */
  second() {
    if (document.hidden) return;
    this.onWords(this.focused);
    this.layout.each(EDGE | WORDS);
  }

  fail(text) {
    const report = `${text}\n${navigator.userAgent}`;
    this.block.show(`The page failed: ${text}`, [['Reload', () => location.reload()],
      ['Copy report', () => navigator.clipboard.writeText(report)]]);
  }
}

const page = new Page();
// A resize that needs a second layout pass is reported as an error and is none.
addEventListener('error', (event) => event.message.startsWith('ResizeObserver') || page.fail(event.message));
addEventListener('unhandledrejection', (event) => page.fail(String(event.reason?.message || event.reason)));
page.start();
