"""The keys of the flow hash in plain Python: specification and oracle of `_hasher_c`."""

from __future__ import annotations

from typing import Final

DEFAULT_SEED: Final = 0x6E6F6465706C616E
HASH_KEYS: Final = 18
_MASK: Final = (1 << 64) - 1


class Hasher:
    """Keys of the flow hash, expanded from a 64-bit `seed` by splitmix64; immutable.

    The default seed is the same everywhere, so that plain and compiled code, and two nodes, choose the same entropy
    port for a flow. Who keeps guests' flows in a table takes a random seed instead: then nobody outside can choose
    flows that collide. Raises ValueError for a seed that does not fit 64 bits.
    """

    __slots__ = ("_keys", "_odd", "_seed")

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        if not 0 <= seed < 1 << 64:
            raise ValueError("seed is 64 bits")
        self._seed = seed
        values = []
        for step in range(1, HASH_KEYS + 2):
            value = (seed + step * 0x9E3779B97F4A7C15) & _MASK
            value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
            value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
            values.append(value ^ value >> 31)
        self._odd = values[0] | 1
        self._keys = tuple(value >> 32 for value in values[1:])

    @property
    def seed(self) -> int:
        """As given."""
        return self._seed

    @property
    def odd(self) -> int:
        """The multiplier of the last step, 64 bits."""
        return self._odd

    @property
    def keys(self) -> tuple[int, ...]:
        """18 keys of 32 bits: 0 to 3 for IPv4, 4 to 13 for IPv6, 14 to 17 for other frames."""
        return self._keys
