// The period ladder: slots, blocks and which level a zoom is drawn from.
// The same arithmetic as piker/ui/ladder.py; golden vectors hold the two together.

export const LADDER = [1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800];
export const BLOCK_SLOTS = 1024;
export const MINUTE = 60;
export const WEEK = 604800;
// Weeks start on Monday; the epoch was a Thursday.
const WEEK_SHIFT = 259200;

const NAMES = { 1: '1s', 5: '5s', 15: '15s', 30: '30s', 60: '1m', 180: '3m', 300: '5m', 900: '15m',
  1800: '30m', 3600: '1h', 7200: '2h', 14400: '4h', 86400: '1D', 604800: '1W' };
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: WEEK };

const shiftOf = (period) => (period === WEEK ? WEEK_SHIFT : 0);

/** The fractional place of time `t` on the axis of `period`. */
export const posOf = (t, period) => (t + shiftOf(period)) / period;
/** The slot that holds time `t`. */
export const slotOf = (t, period) => Math.floor(posOf(t, period));
/** The open time of a (fractional) slot. */
export const timeOf = (slot, period) => slot * period - shiftOf(period);
/** The block that holds a slot. */
export const blockOf = (slot) => Math.floor(slot / BLOCK_SLOTS);

/**
 * The level a view is drawn from: the period itself while a slot is at least one device px wide,
 * else the coarsest rung whose bucket is at most one device px wide.
 */
export function rungFor(period, s, rungs = LADDER) {
  let rung = period;
  if (s >= 1) return rung;
  for (const r of rungs) {
    if (r > rung && r % period === 0 && (s * r) / period <= 1) rung = r;
  }
  return rung;
}

/** The level volume is drawn from: the finest rung whose bucket is at least two device px wide. */
export function volumeRungFor(period, s, rungs = LADDER) {
  let widest = period;
  for (const r of rungs) {
    if (r < period || r % period !== 0) continue;
    if ((s * r) / period >= 2) return r;
    widest = Math.max(widest, r);
  }
  return widest;
}

/** `1m`, `4h`, `1D` of a period in seconds. */
export const periodName = (period) => NAMES[period] || `${period}s`;

/** `1 m`, `15 s` for prose. */
export const periodWords = (period) => periodName(period).replace(/(\d+)(\D)/, '$1 $2').toLowerCase();

/** Seconds of `15`, `1m`, `4h`, `1d`; a bare number means minutes. Null when it is no period. */
export function parsePeriod(text) {
  const match = /^\s*(\d+)\s*([smhdw]?)\s*$/i.exec(text);
  if (!match) return null;
  return Number(match[1]) * UNITS[(match[2] || 'm').toLowerCase()] || null;
}
