// Calendar: time zone offsets through Intl (cached per hour), wall-clock parts, and time ticks.
// Ticks are computed on the local wall clock and mapped back, so DST days come out right.

const HOUR = 3600;
const DAY = 86400;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
// A cached hour is 16 bytes; a week of 1 s bars touches 168, ten years of weeks 90k.
const CACHE_MAX = 100000;

const zones = new Map();

function zoneOf(tz) {
  let zone = zones.get(tz);
  if (zone === undefined) {
    let format = null;
    if (tz !== 'UTC') {
      format = new Intl.DateTimeFormat('en-US', { timeZone: tz, hourCycle: 'h23', year: 'numeric',
        month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' });
    }
    zone = { format, cache: new Map() };
    zones.set(tz, zone);
  }
  return zone;
}

/** A usable zone name: the browser's own for 'local', 'UTC' for one that it does not know. */
export function knownZone(tz) {
  if (tz === 'local') return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
  try {
    zoneOf(tz);
    return tz;
  } catch {
    return 'UTC';
  }
}

/** Seconds to add to epoch time `t` to read the wall clock of `tz`. */
export function offsetAt(t, tz) {
  const zone = zoneOf(tz);
  if (!zone.format) return 0;
  const quarter = Math.floor(t / 900);
  const held = zone.cache.get(quarter);
  if (held !== undefined) return held;
  const at = {};
  for (const part of zone.format.formatToParts(quarter * 900 * 1000)) at[part.type] = Number(part.value);
  const wall = Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) / 1000;
  const offset = wall - quarter * 900;
  if (zone.cache.size >= CACHE_MAX) zone.cache.clear();
  zone.cache.set(quarter, offset);
  return offset;
}

/** Epoch time of a wall-clock time (the earlier one when it happens twice, as if no gap when never). */
export function fromWall(wall, tz) {
  const first = wall - offsetAt(wall - offsetAt(wall, tz), tz);
  const early = wall - offsetAt(first - 2 * HOUR, tz);
  return early + offsetAt(early, tz) === wall && early < first ? early : first;
}

/** Wall-clock parts of epoch time `t` in `tz`. */
export function partsOf(t, tz) {
  const d = new Date((t + offsetAt(t, tz)) * 1000);
  return { year: d.getUTCFullYear(), month: d.getUTCMonth(), day: d.getUTCDate(), weekday: d.getUTCDay(),
    hour: d.getUTCHours(), minute: d.getUTCMinutes(), second: d.getUTCSeconds() };
}

const two = (n) => String(n).padStart(2, '0');

/** 14:30, or 14:30:05 when seconds matter. */
export function clockText(t, tz, withSeconds = false) {
  const p = partsOf(t, tz);
  return `${two(p.hour)}:${two(p.minute)}${withSeconds ? `:${two(p.second)}` : ''}`;
}

/** `Fri 21 Nov  03:27` for the crosshair's tag; the year is added for another year than `now`'s. */
export function stampText(t, tz, period, now) {
  const p = partsOf(t, tz);
  const year = partsOf(now, tz).year === p.year ? '' : ` ${p.year}`;
  const day = `${DAYS[p.weekday]} ${p.day} ${MONTHS[p.month]}${year}`;
  return period >= DAY ? day : `${day}  ${clockText(t, tz, period < 60)}`;
}

// Tick steps in seconds of wall clock, and months for those that have no fixed length.
const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY]
  .map((seconds) => ({ seconds, months: 0 }))
  .concat([1, 3, 12, 60].map((months) => ({ seconds: months * 30.4 * DAY, months })));

/** The finest step whose marks are at least `minPx` apart when one second is `pxPerSecond` wide. */
export function stepFor(pxPerSecond, minPx, period = 1) {
  return STEPS.find((step) => step.seconds >= period && step.seconds * pxPerSecond >= minPx)
    || STEPS[STEPS.length - 1];
}

function monthTicks(t0, t1, months, tz, out) {
  const first = partsOf(t0, tz);
  let at = first.year * 12 + Math.floor(first.month / months) * months;
  if (months >= 12) at = Math.floor(first.year / (months / 12)) * months;
  for (; out.length < 400; at += months) {
    const t = fromWall(Date.UTC(Math.floor(at / 12), at % 12, 1) / 1000, tz);
    if (t > t1) return;
    if (t >= t0) out.push(t);
  }
}

function wallTicks(t0, t1, seconds, tz, out) {
  // Weeks are marked on Mondays; the epoch was a Thursday.
  const shift = seconds === 7 * DAY ? 4 * DAY : 0;
  const wall0 = Math.ceil((t0 + offsetAt(t0, tz) - DAY - shift) / seconds) * seconds + shift;
  const wall1 = t1 + offsetAt(t1, tz) + DAY;
  let last = -Infinity;
  for (let wall = wall0; wall <= wall1 && out.length < 4000; wall += seconds) {
    const t = fromWall(wall, tz);
    if (t + offsetAt(t, tz) !== wall) continue;
    if (t >= t0 && t <= t1 && t > last) out.push(t);
    last = Math.max(last, t);
    const again = t + HOUR;
    if (seconds <= HOUR && again + offsetAt(again, tz) === wall && again >= t0 && again <= t1) out.push(again);
  }
  out.sort((a, b) => a - b);
}

function labelOf(t, tz, seconds) {
  const p = partsOf(t, tz);
  if (p.hour || p.minute || p.second) return { label: clockText(t, tz, seconds < 60), rank: 0 };
  if (p.day !== 1) return { label: `${p.day} ${MONTHS[p.month]}`, rank: 1 };
  if (p.month !== 0) return { label: MONTHS[p.month], rank: 2 };
  return { label: String(p.year), rank: 3 };
}

/** Ticks of [t0, t1]: `{t, label, rank}`; rank 0 is a time of day, 1 a day, 2 a month, 3 a year. */
export function timeTicks(t0, t1, pxPerSecond, minPx, tz, period) {
  const step = stepFor(pxPerSecond, minPx, period);
  const times = [];
  if (step.months) monthTicks(t0, t1, step.months, tz, times);
  else wallTicks(t0, t1, step.seconds, tz, times);
  return times.map((t) => ({ t, ...labelOf(t, tz, step.seconds) }));
}

/** Epoch time of `2026-11-03 14:30`, `14:30`, `-3d`, `-90m`; null when it is none of these. */
export function parseWhen(text, now, tz) {
  const back = /^\s*-\s*(\d+)\s*([smhdw])\s*$/i.exec(text);
  if (back) return now - Number(back[1]) * { s: 1, m: 60, h: HOUR, d: DAY, w: 7 * DAY }[back[2].toLowerCase()];
  const full = /^\s*(?:(\d{4})-(\d{1,2})-(\d{1,2}))?[ T]*(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?\s*$/.exec(text);
  if (!full || (!full[1] && !full[4])) return null;
  const today = partsOf(now, tz);
  const [year, month, day] = full[1]
    ? [Number(full[1]), Number(full[2]) - 1, Number(full[3])]
    : [today.year, today.month, today.day];
  const wall = Date.UTC(year, month, day, Number(full[4] || 0), Number(full[5] || 0), Number(full[6] || 0));
  return Number.isFinite(wall) ? fromWall(wall / 1000, tz) : null;
}
