// The bottom bar: mode, a dot per daemon, the last message, bars held, follow, scale, zone and clock.
// Every change of state is also spoken: one polite line, at most one a second.

import { el, setText, show } from './dom.js';
import { baseOf } from './scene.js';
import { clockText } from './cal.js';
import { periodWords } from './ladder.js';
import { formatCount } from './num.js';

const DOTS = { up: 'up-state', degraded: 'warn-state', down: 'down-state' };
const LATER = ['emsd', 'brokerd'];
const MESSAGES_MAX = 200;
const SPEAK_MS = 1000;

/** Keeps the latest of the sentences of one second and says it on the page's polite line. */
class Speaker {
  constructor(node) {
    this.node = node;
    this.at = -Infinity;
    this.timer = 0;
  }

  say(text) {
    this.text = text;
    if (this.timer) return;
    const wait = Math.max(0, this.at + SPEAK_MS - performance.now());
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.at = performance.now();
      this.node.textContent = this.text;
    }, wait);
  }
}

export class StatusBar {
  constructor(root, polite, alarm) {
    this.speaker = new Speaker(polite);
    this.alarmed = alarm;
    this.messages = [];
    this.mode = el('span', 'mode', 'view');
    this.daemons = el('span', 'daemons');
    this.message = el('span', 'message');
    this.bars = el('span', 'bars');
    this.follow = el('b', 'strong');
    this.scale = el('span');
    this.zone = el('span');
    this.clock = el('b', 'strong');
    this.shown = '';
    root.append(this.mode, this.daemons, this.message, this.bars, el('span', '', 'follow ', [this.follow]), this.scale,
      el('span', '', '', [this.zone, ' ', this.clock]));
  }

  /** Shows a sentence for `seconds` and says it. */
  say(text, seconds = 10) {
    this.note(text, seconds);
    this.speaker.say(text);
  }

  note(text, seconds) {
    this.isAlarm = false;
    this.message.classList.remove('alarm');
    this.messages.push({ at: Date.now(), text });
    if (this.messages.length > MESSAGES_MAX) this.messages.shift();
    this.until = performance.now() + seconds * 1000;
    this.sentence = text;
    this.message.title = text;
    setText(this.message, text);
  }

  /** Says a refusal at once and in full: a trader must not miss it. */
  alarm(text, seconds = 15) {
    this.note(text, seconds);
    this.isAlarm = true;
    this.message.classList.add('alarm');
    this.alarmed.textContent = text;
  }

  speak(text) {
    this.speaker.say(text);
  }

  update(chart) {
    const { market, view } = chart;
    const daemons = market?.status.daemons;
    this.writeDaemons(daemons?.length ? daemons : chart.page.tree.daemons);
    if (this.until && performance.now() > this.until) this.sentence = this.until = 0;
    const load = market?.load;
    const loading = load ? `loading ${periodWords(load.period)} history` : '';
    setText(this.message, this.hint || this.sentence || loading);
    setText(this.bars, this.barsText(market, view, load));
    setText(this.follow, view.follow ? 'on' : 'off');
    setText(this.scale, [view.log ? 'log' : 'lin', view.percent ? '%' : '', view.invert ? 'inverted' : ''].filter(Boolean).join(' '));
    setText(this.zone, chart.tz);
    setText(this.clock, clockText(chart.page.link.now(), chart.tz, true));
  }

  /** Order mode: its words on a ground of its side, and what a click or enter would do. */
  writeOrders(orders) {
    const [words, tone] = orders.mode || ['view', ''];
    setText(this.mode, words);
    const name = `mode${tone ? ` tone-${tone} filled` : ''}`;
    if (this.mode.className !== name) this.mode.className = name;
    // A refusal that was just said is not covered by what a click would do.
    this.hint = this.isAlarm && performance.now() < this.until && !orders.ceremony.wait ? '' : orders.hint;
    setText(this.message, this.hint || this.sentence || '');
  }

  barsText(market, view, load) {
    if (load) return `${formatCount(load.have)} of ${formatCount(load.total)} bars`;
    const bars = market?.info?.bars?.[baseOf(view.period)];
    return Number.isFinite(bars) ? `${formatCount(bars)} bars` : '';
  }

  writeDaemons(daemons) {
    const known = daemons.map(({ name, state }) => ({ name, state }));
    if (known.length) {
      for (const later of LATER) {
        if (!known.some(({ name }) => name.split('.')[0] === later)) known.push({ name: later, state: 'none' });
      }
    }
    const key = JSON.stringify(known);
    if (key === this.shown) return;
    this.shown = key;
    this.daemons.replaceChildren(...known.map(({ name, state }) => {
      const words = { up: 'up', none: 'not started', degraded: 'degraded', down: 'down' }[state] || state;
      const node = el('span', '', '', [el('span', `dot ${DOTS[state] || ''}`), name]);
      node.title = `${name}: ${words}`;
      return node;
    }));
    show(this.daemons, known.length > 0);
  }
}
