// Numbers: clamping, searching, nice steps and the words for prices, volumes and durations.
// Pure; knows nothing of the page. Nothing here calls toLocaleString: it is far too slow for a frame.

export const THIN = '\u2009';
export const MINUS = '\u2212';
const SUBSCRIPTS = '₀₁₂₃₄₅₆₇₈₉';

export const clamp = (value, lo, hi) => (value < lo ? lo : value > hi ? hi : value);

/** Index of the first of `n` ascending `values` that is ≥ `x` (n when none is). */
export function lowerBound(values, x, n = values.length) {
  let lo = 0;
  let hi = n;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (values[mid] < x) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** How many decimals a decimal string needs: '0.010' → 2, '0.25' → 2, '1e-8' → 8, '5' → 0. */
export function digitsOf(decimal) {
  const [mantissa, exponent = '0'] = String(decimal).toLowerCase().split('e');
  const fraction = (mantissa.split('.')[1] || '').replace(/0+$/, '');
  return Math.max(0, fraction.length - Number(exponent));
}

/** The multiple of `tick` nearest to `value`; a tick of 0 means unknown. */
export function snap(value, tick) {
  if (!(tick > 0)) return value;
  const digits = digitsOf(tick);
  return Number((Math.round(value / tick) * tick).toFixed(Math.min(20, digits)));
}

/** Whole digits in groups of three, separated by a thin space. */
export function group(whole) {
  let out = '';
  for (let end = whole.length; end > 0; end -= 3) {
    const part = whole.slice(Math.max(0, end - 3), end);
    out = out ? part + THIN + out : part;
  }
  return out;
}

/** A price with `digits` decimals; below 0.0001 the run of zeros becomes a subscript count. */
export function formatPrice(value, digits, full = false) {
  if (!Number.isFinite(value)) return '–';
  const text = Math.abs(value).toFixed(Math.min(20, digits));
  const sign = value < 0 && Number(text) !== 0 ? MINUS : '';
  const dot = text.indexOf('.');
  if (dot < 0) return sign + group(text);
  const fraction = text.slice(dot + 1);
  const zeros = fraction.match(/^0*/)[0].length;
  if (!full && Number(text) !== 0 && Math.abs(value) < 1e-4 && zeros >= 4) {
    const count = [...String(zeros)].map((digit) => SUBSCRIPTS[digit]).join('');
    return `${sign}0.0${count}${fraction.slice(zeros)}`;
  }
  return `${sign}${group(text.slice(0, dot))}.${fraction}`;
}

/** A whole number in groups: 1 000 000. */
export const formatCount = (n) => (n < 0 ? MINUS : '') + group(String(Math.abs(Math.round(n))));

/** A volume in three or four figures: 0.0042, 54.4, 200, 400.0k, 1.25M. */
export function formatVolume(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0';
  const units = [[1e9, 'B'], [1e6, 'M'], [1e4, 'k']];
  for (const [scale, unit] of units) {
    if (size >= scale) return `${(value / (unit === 'k' ? 1e3 : scale)).toFixed(unit === 'k' ? 1 : 2)}${unit}`;
  }
  if (size >= 1000) return formatCount(value);
  const digits = size >= 100 ? 0 : size >= 1 ? 1 : size >= 0.01 ? 3 : 5;
  return value.toFixed(digits);
}

/** A signed percentage of a fraction: +1.84%, −0.04%, 0.00%. */
export function formatPercent(fraction) {
  if (!Number.isFinite(fraction)) return '';
  const text = Math.abs(fraction * 100).toFixed(2);
  return `${Number(text) === 0 ? '' : fraction > 0 ? '+' : MINUS}${text}%`;
}

/** A duration in its two largest units: 0.4 s, 41 s, 5 min, 3 h 20 min, 2 d 4 h. */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ''}`;
  const days = Math.floor(hours / 24);
  return `${days} d${hours % 24 ? ` ${hours % 24} h` : ''}`;
}

/** A time that is waited or counted in whole seconds: 4 s, 41 s, 5 min. */
export const formatWait = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : formatDuration(seconds));

/** Time left in a bar: 0:23, 12:07, 3:59:10. */
export function formatCountdown(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** The smallest step of {1, 2, 2.5, 5}×10^k that is ≥ `least` and a whole multiple of `tick`. */
export function niceStep(least, tick = 0) {
  if (!(least > 0)) return tick || 1;
  let power = Math.pow(10, Math.floor(Math.log10(least)));
  for (let tries = 0; tries < 60; tries += 1, power *= 10) {
    for (const factor of [1, 2, 2.5, 5]) {
      const step = factor * power;
      if (step < least * (1 - 1e-9)) continue;
      if (!(tick > 0)) return step;
      const multiple = step / tick;
      if (multiple > 0.5 && Math.abs(multiple - Math.round(multiple)) < 1e-6 * Math.max(1, multiple)) {
        return step;
      }
    }
  }
  return least;
}

/** Every multiple of `step` in [lo, hi], without accumulating error. */
export function multiples(lo, hi, step) {
  const out = [];
  const last = Math.floor(hi / step + 1e-9);
  for (let i = Math.ceil(lo / step - 1e-9); i <= last && out.length < 400; i += 1) {
    out.push(i === 0 ? 0 : i * step);
  }
  return out;
}

/** The value below which the fraction `q` of `values` lies (NaN when there are none). */
export function quantile(values, q) {
  if (!values.length) return NaN;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}
