# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the numbers that the engine draws itself. A counter that grows by GAMMA,
# and a finaliser that makes each of its values a good 64-bit mix.
from .types cimport uint64_t


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """The number that a generator in state x draws next."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t draw(uint64_t *state) noexcept nogil:
    """The same, and the state moves on."""
    cdef uint64_t drawn = mix(state[0])
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    return drawn
