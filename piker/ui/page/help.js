// The key sheet, drawn from the key table, and the pointer gestures beside it.

import { el, show } from './dom.js';
import { chordWords } from './keys.js';

const POINTER = [['drag', 'pan'], ['wheel', 'zoom in time'], ['shift wheel', 'pan'], ['right drag', 'zoom both ways'],
  ['drag price axis', 'scale prices'], ['drag time axis', 'scale time'], ['double click', 'reset'], ['shift drag', 'measure'],
  ['wheel while staging', 'slots of the order'], ['drag a line', 'change its price'], ['↑ ↓ on a focused line', 'change by ticks, enter sends'],
  ['double click a line', 'change its size'], ['0 … 9', 'type a period: 15, 4h, 1d, then enter']];

export class Help {
  constructor(table) {
    this.veil = el('div', 'veil hidden');
    this.veil.addEventListener('pointerdown', (event) => {
      if (event.target === this.veil) this.close();
    });
    const rows = table.map(({ keys, words }) => row(words, keys.map(chordWords)));
    const pointer = POINTER.map(([keys, words]) => row(words, [[keys]]));
    const sheet = el('div', 'sheet help', '', [el('h2', '', 'Keys'), el('div', 'columns', '', [...rows, ...pointer])]);
    sheet.setAttribute('role', 'dialog');
    sheet.setAttribute('aria-label', 'Keys');
    this.veil.append(sheet);
    document.body.append(this.veil);
  }

  get isOpen() {
    return !this.veil.classList.contains('hidden');
  }

  toggle() {
    show(this.veil, !this.isOpen);
  }

  close() {
    show(this.veil, false);
  }
}

function row(words, chords) {
  const keys = el('span');
  chords.forEach((parts, i) => {
    if (i) keys.append(' ');
    for (const part of parts) keys.append(el('kbd', '', part), ' ');
  });
  return el('div', 'key-row', '', [el('span', '', words), keys]);
}
