"""Size classes of compressed objects, as Linux's zsmalloc makes them.

A zspage is a chain of frames cut into equal slots, which may span two frames. Longer chains waste less at their end,
but keep more frames alive for one object. So every size 32, 48 ... 4096 gets the chain length that a rule likes best:

- *waste* (calculate_zspage_chain_size of current kernels): a power of two takes one frame; otherwise the first
  length with the fewest bytes left over;
- *used* (get_pages_per_zspage of older kernels, whose result the kernel's documentation still prints): the first
  length with the largest whole percentage of its bytes in slots.

Neighbouring sizes that would cut the same chain into the same number of slots are one class, of the larger size. At the
top, where only one object fits into one frame, they all merge into the class of 4096: such an object is *huge*.
"""

from ..types cimport PAGE_SIZE

CHAIN_RULES = {"waste": CHAIN_WASTE, "used": CHAIN_USED}


cdef int chain_frames(int size, int max_chain, ChainRule rule) noexcept nogil:
    """Frames of a zspage whose slots have `size` bytes."""
    cdef int frames, waste, used, best = 1, least_waste = PAGE_SIZE, most_used = -1
    if rule == CHAIN_WASTE and size & (size - 1) == 0:
        return 1
    for frames in range(1, max_chain + 1):
        waste = frames * PAGE_SIZE % size
        used = (frames * PAGE_SIZE - waste) * 100 // (frames * PAGE_SIZE)
        if waste < least_waste if rule == CHAIN_WASTE else used > most_used:
            best = frames
            least_waste = waste
            most_used = used
    return best


cdef int build_classes(int max_chain, ChainRule rule, SizeClass *classes, uint8_t *class_of) noexcept nogil:
    cdef int index, size, frames, objects, nr_classes = 0
    for index in range(NR_SIZES):
        size = MIN_OBJECT + index * SIZE_STEP
        frames = chain_frames(size, max_chain, rule)
        objects = frames * PAGE_SIZE // size
        if nr_classes == 0 or classes[nr_classes - 1].frames != frames or classes[nr_classes - 1].objects != objects:
            nr_classes += 1
        classes[nr_classes - 1] = SizeClass(size=size, objects=objects, frames=frames)  # the largest size stays
        class_of[index] = nr_classes - 1
    return nr_classes
