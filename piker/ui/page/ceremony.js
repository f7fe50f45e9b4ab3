// "enter within 3 s": one thing at a time waits for a deliberate second key, else it is dropped.

const SECONDS = 3;

export class Ceremony {
  /** `changed()` is called when a wait begins, counts down or ends. */
  constructor(changed) {
    this.changed = changed;
    this.wait = null;
    addEventListener('keydown', (event) => this.key(event), { capture: true });
    addEventListener('blur', () => this.drop());
  }

  /** Waits for enter: then `act()`, else `dropped()`. `words` say what enter does. */
  ask(words, act, dropped = () => {}) {
    this.drop();
    this.wait = { words, act, dropped, until: performance.now() + SECONDS * 1000 };
    this.timer = setInterval(() => this.tick(), 100);
    this.changed();
  }

  /** Whole seconds left; 0 when nothing waits. */
  get left() {
    return this.wait ? Math.max(1, Math.ceil((this.wait.until - performance.now()) / 1000)) : 0;
  }

  get words() {
    return this.wait ? `enter within ${this.left} s: ${this.wait.words}` : '';
  }

  /** Begins the three seconds anew. */
  extend() {
    if (this.wait) this.wait.until = performance.now() + SECONDS * 1000;
  }

  tick() {
    if (this.wait && performance.now() >= this.wait.until) this.drop();
    else this.changed();
  }

  end() {
    const { wait } = this;
    this.wait = null;
    clearInterval(this.timer);
    return wait;
  }

  drop() {
    const wait = this.end();
    if (!wait) return;
    wait.dropped();
    this.changed();
  }

  key(event) {
    if (!this.wait || !['Enter', 'Escape'].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return;
    if (event.key === 'Escape') this.drop();
    else {
      this.end().act();
      this.changed();
    }
  }
}
