// Theme: which colour set is on, read once from tokens.css, with the mixes painters need.
// Painters get the plain object `theme.colors`; nothing is computed in a frame.

const TOKENS = ['bg', 'panel', 'raised', 'grid', 'line', 'text', 'text2', 'text3', 'up', 'down', 'buy', 'sell', 'alert',
  'warn', 'accent', 'sel', 'pending', 'ink', 'overlay1', 'overlay2', 'overlay3', 'overlay4', 'overlay5',
  'overlay6'];
const VOLUME_SHARE = 0.55;
const HATCH_PERIOD = 8;

let probe = null;

/** [r, g, b] of any CSS colour. */
function rgbOf(color) {
  if (!probe) {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 1;
    probe = canvas.getContext('2d', { willReadFrequently: true });
  }
  probe.fillStyle = '#000';
  probe.fillStyle = color;
  probe.fillRect(0, 0, 1, 1);
  return probe.getImageData(0, 0, 1, 1).data;
}

/** `#rrggbb` that is `share` of `a` and the rest of `b`. */
export function mix(a, b, share) {
  const [x, y] = [rgbOf(a).slice(0, 3), rgbOf(b).slice(0, 3)];
  return `#${[0, 1, 2].map((i) => Math.round(x[i] * share + y[i] * (1 - share)).toString(16).padStart(2, '0')).join('')}`;
}

/** A diagonal hatch in `color`, one device px wide, as a canvas pattern. */
function hatch(color, dpr) {
  const size = Math.max(4, Math.round(HATCH_PERIOD * dpr));
  const tile = document.createElement('canvas');
  tile.width = tile.height = size;
  const ctx = tile.getContext('2d');
  ctx.strokeStyle = color;
  ctx.lineWidth = Math.max(1, Math.floor(dpr));
  ctx.beginPath();
  for (const shift of [-size, 0, size]) {
    ctx.moveTo(shift - 1, size + 1);
    ctx.lineTo(shift + size + 1, -1);
  }
  ctx.stroke();
  return ctx.createPattern(tile, 'repeat');
}

export class Theme {
  constructor(wanted = 'auto') {
    this.wanted = wanted;
    this.colorBlind = false;
    this.colors = {};
    this.font = '';
    this.apply();
  }

  get name() {
    if (this.wanted !== 'auto') return this.wanted;
    return matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
  }

  toggle() {
    this.wanted = this.name === 'dark' ? 'light' : 'dark';
    this.apply();
  }

  toggleColorBlind() {
    this.colorBlind = !this.colorBlind;
    this.apply();
  }

  apply(dpr = window.devicePixelRatio || 1) {
    const root = document.documentElement;
    root.dataset.theme = this.name;
    root.dataset.cvd = this.colorBlind ? 'on' : 'off';
    const style = getComputedStyle(root);
    const colors = {};
    for (const token of TOKENS) colors[token] = style.getPropertyValue(`--${token}`).trim();
    this.font = style.getPropertyValue('--font').trim();
    colors.upVolume = mix(colors.up, colors.bg, VOLUME_SHARE);
    colors.downVolume = mix(colors.down, colors.bg, VOLUME_SHARE);
    colors.neutral = mix(colors.text3, colors.bg, VOLUME_SHARE);
    colors.upDim = mix(colors.up, colors.bg, 0.6);
    colors.downDim = mix(colors.down, colors.bg, 0.6);
    colors.hatch = hatch(mix(colors.text3, colors.bg, 0.22), dpr);
    colors.warnHatch = hatch(mix(colors.warn, colors.bg, 0.3), dpr);
    this.colors = colors;
  }
}
