// Order, alert and position lines as positioned elements over one chart: hit-testing, focus and drag
// come with them. Chips and axis tags give way to one another; what is off the axis stands at its edge.

import { button, el, setText, show } from './dom.js';
import { labelRows } from './live.js';
import { lineSpecs } from './line_specs.js';
import { xOf } from './view.js';

const TAG_CSS = 18;
const OFF_MAX = 3;
const SHAKE_MS = 420;
const BRACKET_CSS = 7;
const PRIORITY = { staged: 0, ghost: 1, order: 2, position: 3 };
const BELL = 'M8 1.8a4 4 0 0 0-4 4v3L2.7 11v.7h10.6V11L12 8.8v-3a4 4 0 0 0-4-4zM6.6 12.6a1.5 1.5 0 0 0 2.8 0z';

function bell() {
  const space = 'http://www.w3.org/2000/svg';
  const [svg, path] = [document.createElementNS(space, 'svg'), document.createElementNS(space, 'path')];
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 'bell');
  path.setAttribute('d', BELL);
  svg.append(path);
  return svg;
}

/** The elements of one line. */
class LineView {
  constructor(spec, act) {
    this.key = spec.key;
    this.words = '';
    this.reach = el('div', 'reach');
    [this.past, this.now] = [el('div', 'stroke past'), el('div', 'stroke now')];
    this.leader = el('div', 'leader hidden');
    this.parts = el('span', 'parts');
    this.handles = el('span', 'handles');
    this.chip = el('div', 'order-chip', '', [this.handles, this.parts]);
    this.close = button('close', '×', act, spec.act);
    this.close.tabIndex = -1;
    if (spec.act) this.chip.append(this.close);
    this.level = el('span');
    this.tag = el('div', 'level', '', spec.isAlert ? [bell(), this.level] : [this.level]);
    this.join = el('div', 'join hidden');
    this.el = el('div', '', '', [this.reach, this.past, this.now, this.join, this.leader, this.chip, this.tag]);
    this.el.dataset.line = spec.key;
    if (['order', 'position'].includes(spec.kind)) {
      this.el.tabIndex = 0;
      this.el.setAttribute('role', 'button');
    }
  }

  /** Writes what changed of a line's words and looks. */
  write(spec) {
    this.spec = spec;
    const name = ['order-line', spec.kind, `tone-${spec.tone}`, spec.dash ? 'dash' : '', spec.filled ? 'filled' : '',
      spec.isHalf ? 'half' : '', spec.isHatched ? 'hatched' : '', spec.isLeg ? 'leg' : '', this.isShaking ? 'shake' : ''];
    const classes = name.filter(Boolean).join(' ');
    if (this.el.className !== classes) this.el.className = classes;
    const words = JSON.stringify([spec.parts, spec.handles]);
    if (words !== this.words) {
      this.words = words;
      this.parts.replaceChildren(...spec.parts.map(([text, isSecret]) => el('span', isSecret ? 'secret' : '', text)));
      this.handles.replaceChildren(...spec.handles.map(([what, text]) => {
        const handle = el('span', 'handle', text);
        handle.dataset.handle = what;
        return handle;
      }));
    }
    setText(this.level, spec.tag);
    if (spec.spoken && this.el.getAttribute('aria-label') !== spec.spoken) this.el.setAttribute('aria-label', spec.spoken);
  }

  /** Puts the line on css row `y`, its chip and tag `shift` px from it; `last` is where the newest bar ends. */
  place(y, shift, last, plotW, axisW) {
    const key = [y, shift, last, plotW, axisW].join();
    if (key === this.placed) return;
    this.placed = key;
    this.el.style.transform = `translateY(${y}px)`;
    this.reach.style.width = `${plotW}px`;
    this.past.style.width = `${last}px`;
    [this.now.style.left, this.now.style.width] = [`${last}px`, `${plotW - last}px`];
    this.chip.style.right = `${axisW + 10}px`;
    this.chip.style.top = `${shift - TAG_CSS / 2}px`;
    [this.tag.style.left, this.tag.style.width, this.tag.style.top] = [`${plotW}px`, `${axisW}px`, `${shift - TAG_CSS / 2}px`];
    show(this.leader, Math.abs(shift) > TAG_CSS / 2);
    [this.leader.style.left, this.leader.style.top] = [`${plotW - 4}px`, `${Math.min(0, shift)}px`];
    this.leader.style.height = `${Math.abs(shift)}px`;
  }

  /** Joins a leg to its entry, `dy` px away; null when the entry has no line. */
  link(dy, plotW) {
    show(this.join, dy !== null);
    if (dy === null) return;
    [this.join.style.left, this.join.style.top] = [`${plotW - BRACKET_CSS}px`, `${Math.min(0, dy)}px`];
    this.join.style.height = `${Math.abs(dy)}px`;
  }
}

/** The shift from `top` to the nearest free place of `taken` = [[top, bottom]], in whole tags. */
export function freeShift(top, taken, height, bottom) {
  const isFree = (at) => at >= -height / 2 && at + height <= bottom && !taken.some(([a, b]) => at < b && at + height > a);
  for (let i = 0; i < 40; i += 1) {
    for (const shift of i ? [-i * height, i * height] : [0]) if (isFree(top + shift)) return shift;
  }
  return 0;
}

/** Where each line stands and how far its chip and tag give way, by priority: [{spec, y, shift, isInside}], css px. */
function placesOf(scene, specs) {
  const { g } = scene;
  const label = labelRows(scene);
  const taken = label ? [label.map((row) => row / g.dpr)] : [];
  const ranked = [...specs].sort((a, b) => PRIORITY[a.kind] - PRIORITY[b.kind] || b.level - a.level);
  return ranked.map((spec) => {
    const y = Math.round(scene.y(spec.level)) / g.dpr;
    const isInside = y >= 0 && y < g.plotH / g.dpr;
    const half = TAG_CSS / 2;
    const shift = spec.kind === 'staged' || !isInside ? 0 : freeShift(y - half, taken, TAG_CSS, g.plotH / g.dpr + half);
    if (isInside) taken.push([y + shift - half, y + shift + half]);
    return { spec, y, shift, isInside };
  });
}

export class Lines {
  constructor(chart) {
    this.chart = chart;
    this.views = new Map();
    this.root = el('div', 'lines');
    [this.above, this.below] = [el('div', 'off-lines above'), el('div', 'off-lines below')];
    chart.el.append(this.root, this.above, this.below);
    this.root.addEventListener('focusout', () => chart.page.orders.amend.undoKeyed());
  }

  /** The spec of the line that an element belongs to; null for none. */
  specOf(node) {
    return this.views.get(node?.closest?.('[data-line]')?.dataset.line)?.spec ?? null;
  }

  /** The spec under the pointer or with the focus. */
  chosen() {
    return this.specOf(this.root.querySelector('.order-line:hover')) || this.specOf(document.activeElement);
  }

  focus(key) {
    this.views.get(key)?.el.focus({ preventScroll: true });
  }

  /** Brings elements and places up to date with orders and view. */
  update() {
    const { scene } = this.chart;
    const specs = scene?.store && Number.isFinite(scene.view.hi) ? lineSpecs(this.chart) : [];
    this.reconcile(specs);
    if (specs.length || this.hasOff) this.placeAll(scene, specs);
  }

  reconcile(specs) {
    const keys = new Set(specs.map(({ key }) => key));
    for (const [key, view] of this.views) {
      if (keys.has(key) || view.isShaking) continue;
      view.el.remove();
      this.views.delete(key);
    }
    for (const spec of specs) {
      let view = this.views.get(spec.key);
      if (!view) {
        view = new LineView(spec, () => this.chart.page.orders.close(this.chart, view.spec));
        this.views.set(spec.key, view);
        // Tab walks the lines by price: the highest comes first.
        const lower = [...this.views.values()].filter((other) => other.spec && other.spec.level < spec.level)
          .sort((a, b) => b.spec.level - a.spec.level)[0];
        this.root.insertBefore(view.el, lower?.el ?? null);
      }
      view.write(spec);
    }
  }

  placeAll(scene, specs) {
    const { g, view } = scene;
    const [plotW, axisW] = [g.plotW / g.dpr, (g.w - g.plotW) / g.dpr];
    const last = Math.max(0, Math.min(plotW, xOf(view, plotW, this.chart.lastSlot + 1)));
    const off = { above: [], below: [] };
    const rows = new Map();
    for (const { spec, y, shift, isInside } of placesOf(scene, specs)) {
      show(this.views.get(spec.key).el, isInside);
      if (isInside) {
        rows.set(spec.key, y);
        this.views.get(spec.key).place(y, shift, last, plotW, axisW);
      } else if (spec.kind !== 'staged') off[y < 0 ? 'above' : 'below'].push(spec);
    }
    for (const spec of specs) this.views.get(spec.key).link(this.joint(spec, rows), plotW);
    this.writeOff(off, axisW, g);
  }

  /** Css px from a leg to its entry; null when either is out of sight. */
  joint({ key, row, kind }, rows) {
    if (kind !== 'order' || !row.parent || !rows.has(key) || !rows.has(row.parent)) return null;
    return rows.get(row.parent) - rows.get(key);
  }

  /** Small arrows with the price of lines that are off the axis. */
  writeOff(off, axisW, g) {
    this.hasOff = false;
    for (const [name, specs] of Object.entries(off)) {
      const node = this[name];
      const arrow = name === 'above' ? '▲' : '▼';
      const key = specs.map(({ tag, tone }) => tag + tone).join();
      this.hasOff = this.hasOff || specs.length > 0;
      if (node.dataset.shown === key) continue;
      node.dataset.shown = key;
      node.replaceChildren(...specs.slice(0, OFF_MAX).map(({ tag, tone }) => el('span', `tone-${tone}`, `${arrow} ${tag}`)),
        ...(specs.length > OFF_MAX ? [el('span', 'tone-pending', `+${specs.length - OFF_MAX}`)] : []));
    }
    const right = `${axisW + 10}px`;
    if (this.above.style.right !== right) [this.above.style.right, this.below.style.right] = [right, right];
    const foot = `${(g.hgt - g.plotH) / g.dpr + 4}px`;
    if (this.below.style.bottom !== foot) this.below.style.bottom = foot;
  }

  /** A refused line shakes out; with reduced motion it is just gone. */
  shake(key) {
    const view = this.views.get(key);
    if (!view || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    view.isShaking = true;
    view.el.classList.add('shake');
    setTimeout(() => {
      view.isShaking = false;
      this.update();
    }, SHAKE_MS);
  }

  /** Rows [top, bottom] in device px that the axis tags of orders take: no plain label stands under them. */
  tagRows(scene) {
    const { dpr } = scene.g;
    const places = placesOf(scene, lineSpecs(this.chart).filter(({ kind }) => kind !== 'staged'));
    return places.filter(({ isInside }) => isInside).map(({ y, shift }) => [(y + shift - TAG_CSS / 2) * dpr, (y + shift + TAG_CSS / 2) * dpr]);
  }

  /** What a test reads: {oid, kind, state, price, y, colour, dash, words, secret}. */
  facts() {
    return [...this.views.values()].filter(({ spec }) => spec).map(({ spec, el: node, tag }) => ({ oid: spec.row?.oid ?? spec.key, kind: spec.kind,
      state: spec.row?.state ?? spec.kind, price: spec.tag, level: spec.level, y: Number(/translateY\(([-\d.]+)/.exec(node.style.transform)?.[1]),
      colour: getComputedStyle(tag).color, tone: spec.tone, dash: spec.dash, is_shown: !node.classList.contains('hidden'),
      words: spec.parts.filter(([, isSecret]) => !isSecret).map(([text]) => text), secret: spec.parts.filter(([, s]) => s).map(([text]) => text) }));
  }
}
