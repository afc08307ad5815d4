from .fault cimport Faults
from ..types cimport gfn_t, vmid_t


# Whoever has the page may not need it any more: the host may take its frame until it is written again. *freed: what the
# host held of it is gone already, for it was out of memory. OK, or NO_FRAME when a leaf would have to be split or copied
# and there is no frame for that. Who asks pays for what is freed or marked (CPU_BALLOON, costs.evict).
cdef int give_up_lazily(Faults faults, vmid_t vm, gfn_t gfn, bint *freed) except -1 nogil
