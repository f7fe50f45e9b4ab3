"""
Counter-based randomness: a number is a pure function of (key, counter).

Nothing is drawn in sequence, so any minute of any day can be made without those before it. The
mixer is splitmix64's finaliser, vectorised over numpy arrays of counters.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SECOND = np.uint64(0xD1B54A32D192ED03)  # separates the two draws of a normal
_SHIFTS = tuple(np.uint64(bits) for bits in (30, 27, 31, 11))


def key_of(*parts: Any) -> np.uint64:
    """Return the key of a named source of noise, for example `key_of(seed, "BTCUSDT", "size")`."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return np.uint64(int.from_bytes(blake2b(text, digest_size=8).digest(), "little"))


def bits(key: np.uint64, counter: Ints) -> NDArray[np.uint64]:
    """Return 64 uniform bits for each counter."""
    z = np.atleast_1d(counter).astype(np.uint64) * _GOLDEN
    z += key
    z = (z ^ (z >> _SHIFTS[0])) * _MIX_1
    z = (z ^ (z >> _SHIFTS[1])) * _MIX_2
    return z ^ (z >> _SHIFTS[2])


def uniform(key: np.uint64, counter: Ints) -> Floats:
    """Return a number in the open interval (0, 1) for each counter."""
    return ((bits(key, counter) >> _SHIFTS[3]).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: np.uint64, counter: Ints) -> Floats:
    """Return a standard normal number for each counter (Box-Muller)."""
    radius = np.sqrt(-2.0 * np.log(uniform(key, counter)))
    return np.asarray(radius * np.cos(2 * np.pi * uniform(key ^ _SECOND, counter)))
