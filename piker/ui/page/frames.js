// The wire: binary frames decoded to typed-array views (no copy), control messages to objects.
// Layout: chart.md 3.3. The page half of piker/ui/frames.py.

export const BLOCK = 1;
export const TAIL = 2;
export const TICKS = 3;
export const SERIES = 5;
export const PROTOCOL = 1;
export const COMPLETE = 1;
const HEADER = 40;
const TAIL_ROW = 8;
const NAMES = { [BLOCK]: ['t', 'o', 'h', 'l', 'c', 'v'], [TICKS]: ['t', 'p', 's'], [SERIES]: ['t', 'o', 'l', 'h', 'c'] };

/** True when this machine reads typed arrays as the wire writes them. */
export const littleEndian = () => new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** One frame of `buffer`, or null when it is none of ours (too short, other protocol, wrong size). */
export function decode(buffer) {
  if (buffer.byteLength < HEADER) return null;
  const view = new DataView(buffer);
  if (view.getUint8(1) !== PROTOCOL) return null;
  const frame = {
    kind: view.getUint8(0), flags: view.getUint16(2, true), chan: view.getUint32(4, true),
    seq: view.getUint32(8, true), gen: view.getUint32(12, true), n: view.getUint32(16, true),
    rung: view.getUint32(20, true), key: view.getFloat64(24, true), ver: view.getUint32(32, true),
    rev: view.getUint32(36, true), bytes: buffer.byteLength,
  };
  return frame.kind === TAIL ? tail(frame, buffer) : columns(frame, buffer);
}

function columns(frame, buffer) {
  const names = NAMES[frame.kind];
  if (!names) return frame;
  const flagBytes = frame.kind === TICKS ? 4 * frame.n : 0;
  if (buffer.byteLength < HEADER + 8 * frame.n * names.length + flagBytes) return null;
  names.forEach((name, i) => {
    frame[name] = new Float64Array(buffer, HEADER + 8 * frame.n * i, frame.n);
  });
  if (flagBytes) frame.tickFlags = new Uint32Array(buffer, HEADER + 8 * frame.n * names.length, frame.n);
  return frame;
}

function tail(frame, buffer) {
  if (buffer.byteLength < HEADER + 8 * TAIL_ROW * (1 + frame.n)) return null;
  const head = new Float64Array(buffer, HEADER, TAIL_ROW);
  [frame.last, frame.size, frame.tLast, frame.bid, frame.bidSize, frame.ask, frame.askSize,
    frame.sessionOpen] = head;
  frame.rows = [];
  for (let i = 0; i < frame.n; i += 1) {
    const [rung, t, o, h, l, c, v, ver] = new Float64Array(buffer, HEADER + 8 * TAIL_ROW * (1 + i), TAIL_ROW);
    frame.rows.push({ rung, t, o, h, l, c, v, ver });
  }
  return frame;
}

/** A control message as text. */
export const encode = (op, fields) => JSON.stringify({ op, ...fields });

/** The control message of `text`, or null when it is no object with an `op`. */
export function parseControl(text) {
  try {
    const message = JSON.parse(text);
    return message && typeof message.op === 'string' ? message : null;
  } catch {
    return null;
  }
}
