// The connection to the chart actor: hello, reconnect with backoff and jitter, acks, latency probe.
// Hands decoded messages on; knows nothing of markets or pictures.

import { TAIL, TICKS, decode, encode, parseControl } from './frames.js';
import { quantile } from './num.js';

const PROBE_MS = 2000;
const FIRST_PROBE_MS = 500;
const BACKOFF_MS = 200;
const BACKOFF_FACTOR = 1.6;
const BACKOFF_MAX_MS = 5000;
const JITTER = 0.3;
const RTTS_MAX = 7;
const REFUSED = 4401;
const VERSION = 1;

export class Link {
  /**
   * `events`: welcome(message), control(message), frame(frame), state(state, retry_s), resync().
   * `have()` names what the page still holds: {fqme: [gen, rev]}.
   */
  constructor(url, credentials, events, have) {
    this.url = url;
    this.credentials = credentials;
    this.events = events;
    this.have = have;
    this.state = 'connecting';
    this.seq = 0;
    this.ver = 0;
    this.holes = 0;
    this.attempt = 0;
    this.rtts = [];
    this.clock = null;
    this.socket = null;
    this.timer = 0;
    this.lostAt = performance.now();
    this.pageId = crypto.randomUUID();
    addEventListener('online', () => this.hurry());
    document.addEventListener('visibilitychange', () => {
      this.send('vis', { hidden: document.hidden });
      if (!document.hidden) this.hurry();
    });
    this.probe = setInterval(() => this.ping(), PROBE_MS);
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    const socket = new WebSocket(this.url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.seq = 0;
    socket.onopen = () => {
      const { code, secret } = this.credentials();
      this.send('hello', { v: VERSION, page: this.pageId, dpr: window.devicePixelRatio, have: this.have(),
        ...(code ? { code } : { secret: secret || '' }) });
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => {
      if (socket === this.socket) this.closed(event.code);
    };
  }

  receive(data) {
    if (typeof data !== 'string') {
      this.receiveFrame(data);
      return;
    }
    const message = parseControl(data);
    if (!message) return;
    if (message.op === 'pong') this.pong(message);
    else if (message.op === 'welcome') this.welcome(message);
    else this.events.control(message);
  }

  welcome(message) {
    this.attempt = 0;
    this.speed = message.speed || 1;
    this.setClock(message.now);
    this.setState('open');
    this.events.welcome(message);
    if (document.hidden) this.send('vis', { hidden: true });
    // Not at once: a probe that waits for the first picture would measure the picture.
    setTimeout(() => this.ping(), FIRST_PROBE_MS);
  }

  receiveFrame(buffer) {
    const frame = decode(buffer);
    if (!frame) return;
    if (this.seq && frame.seq !== ((this.seq + 1) >>> 0)) {
      this.holes += 1;
      this.resync();
      return;
    }
    this.seq = frame.seq;
    if (frame.kind === TAIL || frame.kind === TICKS) this.send('ack', { seq: frame.seq });
    if (frame.kind === TAIL) this.ver = frame.ver;
    this.events.frame(frame);
  }

  /** A hole in `seq` is a bug somewhere: everything held is doubted and the connection starts anew. */
  resync() {
    const socket = this.socket;
    this.socket = null;
    socket.close();
    this.events.resync();
    this.open();
  }

  closed(code) {
    if (this.state === 'open') this.lostAt = performance.now();
    this.socket = null;
    if (code === REFUSED) {
      this.setState('refused');
      return;
    }
    const wait = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * BACKOFF_FACTOR ** this.attempt)
      * (1 + JITTER * (2 * Math.random() - 1));
    this.attempt += 1;
    this.retryAt = performance.now() + wait;
    this.timer = setTimeout(() => this.open(), wait);
    this.setState('lost');
  }

  hurry() {
    if (this.timer) this.open();
  }

  setState(state) {
    this.state = state;
    this.events.state(state);
  }

  /** Seconds until the next try; 0 while one is under way. */
  get retryIn() {
    return this.timer ? Math.max(0, (this.retryAt - performance.now()) / 1000) : 0;
  }

  /** Seconds since the actor was last heard of. */
  get lostFor() {
    return (performance.now() - this.lostAt) / 1000;
  }

  ping() {
    if (this.state === 'open' && !document.hidden) this.send('ping', { t: performance.now() });
  }

  pong({ t, now }) {
    const rtt = performance.now() - t;
    this.rtts.push(rtt);
    if (this.rtts.length > RTTS_MAX) this.rtts.shift();
    this.setClock(now + (rtt / 2000) * this.speed);
  }

  setClock(now) {
    this.clock = { now, at: performance.now() };
  }

  /** The actor's clock now, epoch seconds (market time). */
  now() {
    if (!this.clock) return Date.now() / 1000;
    return this.clock.now + ((performance.now() - this.clock.at) / 1000) * this.speed;
  }

  /** Half the median round trip, ms. */
  get halfTripMs() {
    return this.rtts.length ? quantile(this.rtts, 0.5) / 2 : 0;
  }

  /** Sends a control message; false when there is no connection. */
  send(op, fields) {
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(encode(op, fields));
    return true;
  }
}
