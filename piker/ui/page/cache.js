// Blocks of all markets under one byte budget, least recently used first out.

const BUDGET_BYTES = 64 * 1024 * 1024;

export class BlockCache {
  constructor(budget = BUDGET_BYTES) {
    this.budget = budget;
    this.bytes = 0;
    this.map = new Map();
  }

  get(key) {
    const block = this.map.get(key);
    if (block) {
      this.map.delete(key);
      this.map.set(key, block);
    }
    return block;
  }

  peek(key) {
    return this.map.get(key);
  }

  put(key, block) {
    this.drop(key);
    this.map.set(key, block);
    this.bytes += block.bytes;
    for (const oldest of this.map.keys()) {
      if (this.bytes <= this.budget || oldest === key) break;
      this.drop(oldest);
    }
  }

  drop(key) {
    const block = this.map.get(key);
    if (!block) return;
    this.bytes -= block.bytes;
    this.map.delete(key);
  }
}
