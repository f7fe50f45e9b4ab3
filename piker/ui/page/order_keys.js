// Keys that mean something else while an order is staged or one of its lines has the focus.

const TICKS = { ArrowUp: 1, ArrowDown: -1 };
const TEN = 10;

export class OrderKeys {
  constructor(orders) {
    this.orders = orders;
  }

  /** Takes a key before the key table does; true when it was taken. */
  claims(event) {
    const { orders } = this;
    if (event.key === 'Escape' && orders.amend.isHeld) {
      orders.amend.undo();
      return true;
    }
    if (orders.stage) return this.staging(event);
    if (/^[0-9]$/.test(event.key) && orders.held.has('live')) return this.slots(event);
    return this.onLine(event);
  }

  /** While staging: ctrl is the venue, a digit the slots, and no chord reaches the browser. */
  staging(event) {
    const { orders } = this;
    if (event.key === 'Control') orders.press('ctrl');
    if (/^[0-9]$/.test(event.key)) {
      if (!event.repeat && event.key !== '0') orders.staging.resize(Number(event.key));
      return true;
    }
    return event.ctrlKey;
  }

  /** `s` and a digit: that many slots from now on. */
  slots(event) {
    const { orders } = this;
    const { market } = orders.page.focused;
    if (!event.repeat && event.key !== '0' && market?.info) orders.request('alloc', { chan: market.chan, slots: Number(event.key) });
    return true;
  }

  /** On a focused line arrows change its price by ticks, enter sends the change. */
  onLine(event) {
    const { orders } = this;
    const chart = orders.page.focused;
    const spec = chart.lines.specOf(document.activeElement);
    if (!spec || event.altKey || event.ctrlKey) return false;
    if (TICKS[event.key] && spec.kind === 'order') {
      orders.amend.nudge(chart, spec, TICKS[event.key] * (event.shiftKey ? TEN : 1) * (chart.view.invert ? -1 : 1));
      return true;
    }
    if (event.key === 'Enter') {
      if (orders.amend.isHeld && !event.repeat) orders.amend.finish();
      return true;
    }
    if (event.key !== 'Escape') return false;
    orders.page.refocus();
    return true;
  }
}
