// Volume: bars of equal time width at the foot, coloured by direction while single bars are shown.

import { posOf } from './ladder.js';
import { bodyWidth } from './paint_bars.js';

const GAP_FROM_PX = 4;

/** Paints `part` = {rung, spans} of a scene into its volume pane; `scene.volumeMax` fills it. */
export function paintVolume(ctx, scene, part) {
  const { colors } = scene;
  if (!(scene.volumeMax > 0)) return;
  if (part.rung === scene.view.period) {
    bars(ctx, scene, part, true, colors.upVolume);
    bars(ctx, scene, part, false, colors.downVolume);
  } else bars(ctx, scene, part, null, colors.neutral);
}

function bars(ctx, scene, part, wantUp, color) {
  const { g, view, s } = scene;
  const width = (s * part.rung) / view.period;
  const shift = g.plotW - view.right * s;
  const foot = g.volumeTop + g.volumeH;
  const tall = (g.volumeH - g.volumePad) / scene.volumeMax;
  const body = bodyWidth(width, g.h);
  ctx.fillStyle = color;
  for (const { b, i0, i1 } of part.spans) {
    for (let i = i0; i < i1; i += 1) {
      if (!(b.v[i] > 0)) continue;
      if (wantUp !== null && (b.c[i] >= b.o[i]) !== wantUp) continue;
      const height = Math.max(1, Math.round(b.v[i] * tall));
      const left = shift + posOf(b.t[i], view.period) * s;
      if (width >= GAP_FROM_PX) {
        const x = Math.round(left + width / 2 - g.h / 2) - (body - g.h) / 2;
        ctx.fillRect(x, foot - height, body, height);
      } else {
        const x = Math.round(left);
        ctx.fillRect(x, foot - height, Math.max(1, Math.round(left + width) - x), height);
      }
    }
  }
}
