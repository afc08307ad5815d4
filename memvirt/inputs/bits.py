"""Random bits that are the same on every machine and with every NumPy.

Bits come from Philox 4x64-10 (Salmon et al., SC'11), keyed directly and read raw; whatever is made of them is computed
in integers. NumPy promises to keep the raw bits of a generator, but not what its distributions make of them.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Pages = NDArray[np.uint32]


class Bits:
    """Raw random bits for one purpose, named by what they are for: `Bits(seed, vm, phase)`.

    Two different names give independent streams. `child` names a stream below this one.
    """

    __slots__ = ("_bits", "_name")

    def __init__(self, *name: int | str) -> None:
        self._name = name
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"), counter=0)

    def child(self, *name: int | str) -> "Bits":
        return Bits(*self._name, *name)

    def u64(self, count: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def u32(self, count: int) -> NDArray[np.uint32]:
        return self.u64((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count].astype(np.uint32, copy=False)

    def u16(self, count: int) -> NDArray[np.uint16]:
        return self.u64((count + 3) // 4).astype("<u8", copy=False).view("<u2")[:count].astype(np.uint16, copy=False)

    def below(self, bound: int, count: int) -> Pages:
        """Numbers in [0, bound), by multiply and shift: each is off its fair share by less than bound / 2**32."""
        wide = self.u32(count).astype(np.uint64)
        wide *= np.uint64(bound)
        wide >>= np.uint64(32)
        return wide.astype(np.uint32)

    def one_below(self, bound: int) -> int:
        return int(self.below(bound, 1)[0])

    def permutation(self, count: int) -> Pages:
        """0 to count - 1 in random order: the order of random 64-bit keys, equal keys as they stand."""
        return np.argsort(self.u64(count), kind="stable").astype(np.uint32)
