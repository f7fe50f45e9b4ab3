// The staged order: a line at the pointer while an order key is held, sized by the allocator, sent by a
// click. The view stands still under it, and what the chip says is what is sent.

import { CROSS, WORDS } from './loop.js';
import { snap } from './num.js';
import { formatLevel, formatSize, newOid } from './order_words.js';

const SAME_CLICK_MS = 300;
const SAME_CLICK_CSS = 6;
const SEEN_MS = 200;

/** What the plot's y scale is made of: a click counts only on the scale that was seen. */
const scaleOf = ({ scene: { view, g } }) => [view.lo, view.hi, view.log, view.invert, g.plotH].join();

export class Staging {
  constructor(orders) {
    this.orders = orders;
    this.stage = null;
    this.clicked = { at: -Infinity, x: 0, y: 0 };
  }

  /** An order key went down: its line follows the pointer until it comes up. */
  begin(action) {
    const chart = this.orders.page.pointed?.market ? this.orders.page.pointed : this.orders.page.focused;
    if (!chart.market?.info) return;
    this.leave();
    this.orders.page.layout.focus(chart);
    this.orders.turnOn(chart.market);
    this.stage = { action, chart, steps: 1, price: '', isLive: false, sized: null, take_profit: '', stop_loss: '', scale: scaleOf(chart) };
    this.orders.page.side.offer(chart);
    this.retitle();
    this.aim(chart);
  }

  /** Dark or at the venue, and what a click would do. */
  retitle() {
    const { stage } = this;
    if (stage.isPinned) return;
    stage.isLive = this.orders.held.has('live') || this.orders.held.has('ctrl');
    const isDark = stage.action !== 'alert' && !stage.isLive;
    stage.name = isDark ? `dark ${stage.action}` : stage.action;
    stage.hint = this.orders.obstacle(stage.chart.market) || `click places the ${stage.action === 'alert' ? 'alert' : 'order'} · esc leaves order mode`;
    this.orders.redraw();
  }

  /** The pointer moved or the picture was painted: the staged line follows, snapped to the tick. */
  aim(chart) {
    const { stage } = this;
    if (!stage || stage.chart !== chart || stage.isPinned || !chart.scene?.price) return;
    const y = chart.cross.at?.y;
    const { g } = chart.scene;
    const isInside = y !== undefined && y >= 0 && y * g.dpr < g.plotH;
    stage.price = isInside ? snap(chart.scene.price(y * g.dpr), chart.market.tick).toFixed(chart.market.digits) : '';
    const scale = scaleOf(chart);
    if (scale !== stage.scale) stage.movedAt = performance.now();
    stage.scale = scale;
    this.size();
  }

  /** The device row of the staged line of a chart: the last-price label gives way to it; null without one. */
  rowOn(chart) {
    const { stage } = this;
    return stage?.chart === chart && stage.price && chart.scene.y ? Math.round(chart.scene.y(Number(stage.price))) : null;
  }

  /** Asks the allocator about the staged price, once per place. */
  size() {
    const { stage } = this;
    if (!stage.price || stage.action === 'alert' || !(Number(stage.price) > 0)) return;
    const { market } = stage.chart;
    if (market.book.desk.state !== 'ready') return;
    const key = `${stage.action}:${stage.price}:${stage.steps}:${market.book.account}`;
    if (key === stage.asked) return;
    stage.asked = key;
    this.orders.request('size', { chan: market.chan, side: stage.action, price: stage.price, steps: stage.steps });
  }

  /** The wheel while staging: one slot more or less; true when it was taken. */
  wheel(chart, px) {
    if (this.stage?.chart !== chart) return false;
    if (px && !this.stage.isPinned) this.resize(this.stage.steps - Math.sign(px));
    return true;
  }

  /** Another number of slots. */
  resize(steps) {
    const { stage } = this;
    const most = stage.chart.market.book.alloc?.slots || 1;
    stage.steps = Math.max(1, Math.min(most, steps));
    this.size();
    this.orders.redraw();
  }

  /** Leaves order mode. */
  leave() {
    const { stage } = this;
    if (!stage) return;
    this.stage = null;
    stage.chart.thaw();
    this.orders.redraw();
    this.orders.page.loop.dirty(stage.chart, CROSS | WORDS);
  }

  /** A click on the plot at css (x, y): one order, on the scale that was seen. */
  click(chart, x, y) {
    const { stage } = this;
    if (stage.isPinned || this.isSameClick(x, y)) return;
    if (this.orders.waiting) {
      this.orders.refuse('Nothing sent: the order before has no line yet.');
      return;
    }
    const { g } = chart.scene;
    if (x * g.dpr >= g.plotW || y * g.dpr >= g.plotH || y < 0) {
      this.orders.refuse('Nothing sent: click on the plot, where the price is.');
      return;
    }
    const isSeen = stage.scale === scaleOf(chart) && !(performance.now() - stage.movedAt < SEEN_MS);
    chart.cross.move({ x, y });
    this.aim(chart);
    const why = this.orders.obstacle(chart.market);
    if (why) this.orders.refuse(`Nothing sent: ${why}`);
    else if (!isSeen) this.orders.refuse('Nothing sent: the picture moved, point again.');
    else if (!(Number(stage.price) > 0)) this.orders.refuse(`Nothing sent: a price must be above zero, was ${stage.price || 'off the axis'}.`);
    else if (stage.action !== 'alert' && stage.sized && !stage.sized.size) this.orders.refuse(stage.sized.text || 'Nothing sent: no size.');
    else {
      this.clicked = { at: performance.now(), x, y };
      this.enter(stage);
    }
  }

  /** The second half of a double click is no second order. */
  isSameClick(x, y) {
    const { clicked } = this;
    return performance.now() - clicked.at < SAME_CLICK_MS && Math.hypot(x - clicked.x, y - clicked.y) < SAME_CLICK_CSS;
  }

  enter(stage) {
    const { action, price, steps, isLive, sized, chart } = stage;
    const fields = { chan: chart.market.chan, oid: newOid(), action, exec_mode: isLive && action !== 'alert' ? 'live' : 'dark', price, steps,
      size: action !== 'alert' && sized?.price === price && sized.steps === steps ? sized.size : '' };
    if (sized?.confirm && action !== 'alert') this.pin(stage, fields);
    else this.orders.submit(chart, fields);
  }

  /** The staged order stays where it is until enter sends it. */
  pin(stage, fields) {
    stage.isPinned = true;
    this.orders.ceremony.ask(`${stage.name} ${formatSize(fields.size)} at ${formatLevel(fields.price, stage.chart.market.digits)}`, () => {
      this.orders.submit(stage.chart, { ...fields, take_profit: stage.take_profit, stop_loss: stage.stop_loss, confirmed: true });
      this.unpin(stage);
    }, () => {
      this.orders.say('Dropped: nothing was sent.');
      this.unpin(stage);
    });
    this.orders.redraw();
  }

  unpin(stage) {
    stage.isPinned = false;
    Object.assign(stage, { take_profit: '', stop_loss: '', wait: '' });
    if (this.stage !== stage) return;
    if (this.orders.held.has(stage.action)) this.aim(stage.chart);
    else this.leave();
  }
}
