// Bars: candles from 3 device px on, high-low sticks from 1, below that one column per device px.
//
// All geometry is in whole device px, wick and body share their rounding, and every extreme of every
// row in view is drawn. Up pass, then down pass, so that the style is set once each (chart.md 5).

import { posOf } from './ladder.js';

const BODY_SHARE = 0.74;
const CANDLE_PX = 3;
const COLUMNS_MAX = 16384;

const colX = new Int32Array(COLUMNS_MAX);
const colTop = new Int32Array(COLUMNS_MAX);
const colBottom = new Int32Array(COLUMNS_MAX);
const colUp = new Uint8Array(COLUMNS_MAX);

/** Device px of a body on slots `width` px wide: odd or even like the hairline `h`. */
export function bodyWidth(width, h) {
  const body = Math.max(h, Math.floor(BODY_SHARE * width));
  return (body - h) % 2 ? body - 1 : body;
}

/** Paints `part` = {rung, spans: [{b, i0, i1}], isDim} of a scene. */
export function paintBars(ctx, scene, part) {
  const { colors } = scene;
  const up = part.isDim ? colors.upDim : colors.up;
  const down = part.isDim ? colors.downDim : colors.down;
  const width = (scene.s * part.rung) / scene.view.period;
  if (width >= CANDLE_PX) {
    candles(ctx, scene, part, width, true, up);
    candles(ctx, scene, part, width, false, down);
    return;
  }
  const n = gather(scene, part, width);
  strokeColumns(ctx, n, 1, up);
  strokeColumns(ctx, n, 0, down);
}

function candles(ctx, scene, part, width, wantUp, color) {
  const { g, y, view } = scene;
  const h = g.h;
  const body = bodyWidth(width, h);
  const inset = (body - h) / 2;
  const period = view.period;
  const shift = g.plotW - view.right * scene.s;
  ctx.fillStyle = color;
  for (const { b, i0, i1 } of part.spans) {
    const { t, o, h: high, l, c } = b;
    for (let i = i0; i < i1; i += 1) {
      const isUp = c[i] >= o[i];
      if (isUp !== wantUp || high[i] !== high[i]) continue;
      const x = Math.round(shift + posOf(t[i], period) * scene.s + width / 2 - h / 2);
      const top = Math.round(y(isUp ? c[i] : o[i]));
      const bottom = Math.round(y(isUp ? o[i] : c[i]));
      const wickTop = Math.round(y(high[i]));
      const wickBottom = Math.round(y(l[i]));
      const [a, z] = top < bottom ? [top, bottom] : [bottom, top];
      const [wa, wz] = wickTop < wickBottom ? [wickTop, wickBottom] : [wickBottom, wickTop];
      ctx.fillRect(x, wa, h, Math.max(h, wz - wa + 1));
      ctx.fillRect(x - inset, a, body, Math.max(h, z - a + 1));
    }
  }
}

/** Fills the column arrays: rows whose start falls in the same device px share one column. */
function gather(scene, part, width) {
  const { g, y, view, s } = scene;
  const shift = g.plotW - view.right * s;
  const centre = width >= 1 ? width / 2 - 0.5 : 0;
  let n = -1;
  let column = -Infinity;
  let [first, high, low, last] = [0, 0, 0, 0];
  const close = () => {
    if (n < 0) return;
    const a = y(high);
    const z = y(low);
    colX[n] = column;
    colTop[n] = Math.floor(Math.min(a, z));
    colBottom[n] = Math.max(colTop[n] + 1, Math.ceil(Math.max(a, z)));
    colUp[n] = last >= first ? 1 : 0;
  };
  for (const { b, i0, i1 } of part.spans) {
    for (let i = i0; i < i1; i += 1) {
      if (b.h[i] !== b.h[i]) continue;
      const x = Math.floor(shift + posOf(b.t[i], view.period) * s + centre);
      if (x !== column) {
        close();
        if (n + 1 >= COLUMNS_MAX) return n;
        n += 1;
        column = x;
        [first, high, low] = [b.o[i], b.h[i], b.l[i]];
      } else {
        if (b.h[i] > high) high = b.h[i];
        if (b.l[i] < low) low = b.l[i];
      }
      last = b.c[i];
    }
  }
  close();
  return n + 1;
}

function strokeColumns(ctx, n, isUp, color) {
  ctx.strokeStyle = color;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let i = 0; i < n; i += 1) {
    if (colUp[i] !== isUp) continue;
    ctx.moveTo(colX[i] + 0.5, colTop[i]);
    ctx.lineTo(colX[i] + 0.5, colBottom[i]);
  }
  ctx.stroke();
}
