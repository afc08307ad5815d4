from ..types cimport MAX_VMS, gfn_t, hfn_t, int64_t, uint32_t, uint64_t, vmid_t
from .scanner cimport Scanner


cdef class EsxScanner(Scanner):
    cdef uint64_t seed
    cdef int64_t vm_pages_per_s                 # most pages looked at in one VM per simulated second
    cdef int64_t scan_time_ns                   # shortest time for a pass over one VM
    cdef uint64_t step[MAX_VMS]                 # how far the VM's pass has come
    cdef bint met[MAX_VMS]                      # a page in this pass: one without is none
    cdef uint64_t order[MAX_VMS]                # number that makes the order of this pass
    cdef int64_t ready_ns[MAX_VMS]              # when the VM may have its next page looked at
    cdef uint32_t turn                          # VM that is asked next

    cdef hfn_t _draw(self, vmid_t vm, bint *ended) noexcept nogil
    cdef vmid_t _next_vm(self) noexcept nogil
    cdef bint _visit(self, hfn_t frame) except? True nogil
    cdef uint32_t _whole_pass(self) except? 0xFFFFFFFF nogil
