// Notification and sound of what happens to orders, as `[ui.notify]` says per event.

const TONES = { fill: [660, 880], closed: [520, 660], error: [300, 220], alert: [880, 660, 880] };
const TONE_S = 0.09;
const VOLUME = 0.08;

export class Notices {
  /** `prefs()` = {fill, closed, error, alert: 'none', 'sound', 'desktop' or 'both'}. */
  constructor(prefs) {
    this.prefs = prefs;
    this.sounds = 0;
    this.shown = [];
    // A browser plays nothing before the first gesture on the page.
    for (const name of ['pointerdown', 'keydown']) addEventListener(name, () => this.wake(), { once: true });
  }

  wants(event, kind) {
    const how = this.prefs()?.[event] || 'none';
    return how === 'both' || how === kind;
  }

  wake() {
    const events = Object.keys(TONES);
    if (!this.audio && events.some((event) => this.wants(event, 'sound'))) this.audio = new AudioContext();
    this.audio?.resume();
  }

  /** Asks for the permission to notify, once, from within a gesture. */
  ask() {
    const isWanted = Object.keys(TONES).some((event) => this.wants(event, 'desktop'));
    if (isWanted && globalThis.Notification?.permission === 'default') Notification.requestPermission();
  }

  tell(event, text) {
    if (this.wants(event, 'sound')) this.sound(event);
    if (!this.wants(event, 'desktop')) return;
    this.shown = [...this.shown, text].slice(-20);
    if (globalThis.Notification?.permission === 'granted') new Notification('piker', { body: text, tag: event });
  }

  sound(event) {
    this.sounds += 1;
    const { audio } = this;
    if (!audio) return;
    TONES[event].forEach((hertz, i) => {
      const [tone, gain] = [audio.createOscillator(), audio.createGain()];
      const at = audio.currentTime + i * TONE_S;
      tone.frequency.value = hertz;
      gain.gain.setValueAtTime(VOLUME, at);
      gain.gain.exponentialRampToValueAtTime(0.001, at + TONE_S);
      tone.connect(gain).connect(audio.destination);
      tone.start(at);
      tone.stop(at + TONE_S);
    });
  }
}
