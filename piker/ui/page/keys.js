// The key table. The key sheet is drawn from it, and every entry runs one intent of the page.
// No key does harm by accident: keys act on the focused chart and never inside an input.

/** [id, keys, words, options]; several keys are alternatives. `repeat` lets a held key act again. */
const TABLE = [
  ['step-left', ['ArrowLeft'], 'crosshair one bar left', 'repeat'],
  ['step-right', ['ArrowRight'], 'crosshair one bar right', 'repeat'],
  ['step-left-10', ['shift-ArrowLeft'], 'crosshair ten bars left', 'repeat'],
  ['step-right-10', ['shift-ArrowRight'], 'crosshair ten bars right', 'repeat'],
  ['half-left', ['ctrl-ArrowLeft'], 'half a screen left', 'repeat'],
  ['half-right', ['ctrl-ArrowRight'], 'half a screen right', 'repeat'],
  ['zoom-in', ['ArrowUp', '=', '+', 'ctrl-i'], 'zoom in', 'repeat'],
  ['zoom-out', ['ArrowDown', '-', 'ctrl-o'], 'zoom out', 'repeat'],
  ['home', ['Home'], 'first bar'],
  ['now', ['End', 'n'], 'now, and follow'],
  ['reset', ['r'], 'reset view and price axis'],
  ['redraw', ['shift-R'], 'drop caches and redraw'],
  ['finer', [','], 'finer period'],
  ['coarser', ['.'], 'coarser period'],
  ['search', ['/', 'ctrl-k', 'ctrl-l'], 'search markets'],
  ['query', ['q'], 'hold: details of the bar under the crosshair'],
  ['go-to', ['alt-g'], 'go to date and time'],
  ['log', ['alt-l'], 'log scale'],
  ['percent', ['alt-p'], 'percent scale'],
  ['invert', ['alt-i'], 'invert the price axis'],
  ['grid', ['g'], 'grid'],
  ['theme', ['t'], 'light or dark'],
  ['color-blind', ['b'], 'colour-blind colours'],
  ['layout', ['\\'], 'one, two, four charts, slow-fast pair'],
  ['next-chart', ['w'], 'next chart'],
  ['previous-chart', ['shift-W'], 'previous chart'],
  ['maximise', ['alt-Enter'], 'maximise the chart'],
  ['previous-market', ['['], 'previous market'],
  ['next-market', [']'], 'next market'],
  ['buy', ['f'], 'hold: a buy at the pointer, click places it'],
  ['sell', ['d'], 'hold: a sell'],
  ['alert', ['a'], 'hold: an alert'],
  ['live', ['s'], 'with f or d (also ctrl): at the venue, else held dark; with a digit: slots'],
  ['steps', ['o'], 'with f or d and a digit: slots of the order'],
  ['cancel', ['c', 'Delete'], 'cancel the line under the pointer; twice: all'],
  ['side', ['ctrl- '], 'order pane'],
  ['new-window', ['alt-n'], 'address for another window'],
  ['speak', ['alt-v'], 'speak a summary of the chart'],
  ['help', ['?'], 'this sheet'],
  ['leave', ['Escape'], 'leave whatever is open'],
];
const SHOWN = { ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', Escape: 'esc', Enter: 'enter', Home: 'home', End: 'end', ' ': 'space' };
const MODIFIED_BY_SHIFT = /^[^A-Za-z]$/;

/** The table with the trader's own keys (`[ui.keys]`: id → key) in place of the built-in ones. */
export function keyTable(remapped = {}) {
  return TABLE.map(([id, keys, words, repeat]) => ({ id, words, repeats: repeat === 'repeat',
    keys: remapped[id] ? [].concat(remapped[id]) : keys }));
}

/** `ctrl-shift-X` of a key event, as the table writes it. */
export function chord(event) {
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push('ctrl');
  if (event.altKey) parts.push('alt');
  if (event.shiftKey && !MODIFIED_BY_SHIFT.test(event.key)) parts.push('shift');
  // With alt some systems type another letter: the physical key is what the table means.
  const key = event.altKey && /^Key[A-Z]$/.test(event.code) ? event.code.slice(3).toLowerCase() : event.key;
  return [...parts, key].join('-');
}

/** A chord in the words of the sheet: `shift ←`. */
export function chordWords(text) {
  const parts = text === '-' ? ['-'] : text.split(/-(?=.)/);
  return parts.map((part) => SHOWN[part] || part.toLowerCase());
}

export class Keys {
  /**
   * `run(id)` acts, `release(id)` when a held key comes up; `digit(char)` opens the period entry; `isBusy(key)` is
   * true while a sheet has the keys; `claims(event)` takes a key before the table does.
   */
  constructor(remapped, { run, digit, release, dropped, isBusy, claims }) {
    this.table = keyTable(remapped);
    this.byChord = new Map(this.table.flatMap((entry) => entry.keys.map((key) => [key, entry])));
    // Which entry a physical key holds: with ctrl pressed meanwhile its key-up is another chord.
    this.held = new Map();
    addEventListener('keydown', (event) => {
      if (event.target.closest?.('input, textarea, select') || isBusy(event.key)) return;
      if (claims(event)) {
        event.preventDefault();
        return;
      }
      const text = chord(event);
      const entry = this.byChord.get(text);
      if (!entry) {
        if (/^[0-9]$/.test(text) && !event.repeat) {
          event.preventDefault();
          digit(text);
        }
        return;
      }
      event.preventDefault();
      if (event.repeat && !entry.repeats) return;
      this.held.set(event.code, entry.id);
      run(entry.id);
    });
    addEventListener('keyup', (event) => {
      const id = this.held.get(event.code) ?? (event.key === 'Control' ? 'ctrl' : null);
      this.held.delete(event.code);
      if (id) release(id);
    });
    this.dropAll = () => {
      for (const id of this.held.values()) release(id);
      this.held.clear();
      dropped();
    };
    // The ring is for who walks with tab; a focus set by script or pointer shows none.
    addEventListener('keydown', (event) => event.key === 'Tab' && document.body.classList.add('tabbing'));
    addEventListener('pointerdown', () => document.body.classList.remove('tabbing'));
    addEventListener('blur', this.dropAll);
    document.addEventListener('visibilitychange', this.dropAll);
  }
}
