from ..types cimport hfn_t, int64_t, uint32_t, vpn_t
from .batch cimport Batch
from .engine cimport Engine
from .vm cimport Vm


# Serve accesses first .. end - 1 of a batch until done, out of time, interrupted, or stuck: then vm.outcome says why.
# Returns how many.
cdef uint32_t serve(Engine engine, Vm vm, Batch batch, uint32_t first, uint32_t end,
                    int64_t until) except? 0xFFFFFFFF nogil
# Make one page accessible, its translation cached; *frame holds it. The running clock is the VM's.
cdef int touch(Engine engine, Vm vm, vpn_t vpn, bint write, hfn_t *frame) except -1 nogil
