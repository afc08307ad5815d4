from ..types cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MIN_OBJECT = 32             # bytes of the smallest slot
    SIZE_STEP = 16              # bytes from one requested size to the next
    NR_SIZES = 255              # 32, 48, ... 4096
    MAX_CHAIN = 16              # frames in the longest zspage

cdef enum ChainRule:
    CHAIN_WASTE = 0             # current kernels: least bytes wasted at the end of the chain
    CHAIN_USED = 1              # older kernels and the documentation: largest whole percentage used

cdef struct SizeClass:
    uint16_t size               # bytes of one object slot
    uint16_t objects            # slots in a zspage
    uint16_t frames             # frames in a zspage

cdef int chain_frames(int size, int max_chain, ChainRule rule) noexcept nogil
# Fills classes[] (smallest first) and class_of[NR_SIZES], the class that serves each requested size; how many classes.
cdef int build_classes(int max_chain, ChainRule rule, SizeClass *classes, uint8_t *class_of) noexcept nogil


cdef inline uint32_t size_index(uint32_t length) noexcept nogil:
    return 0 if length <= MIN_OBJECT else (length - MIN_OBJECT + SIZE_STEP - 1) // SIZE_STEP
