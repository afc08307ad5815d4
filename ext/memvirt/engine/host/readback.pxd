from .core cimport Core, VmState
from ..types cimport uint8_t, vpn_t


# Copy the content of a page into out (content.raw_bytes of it). Needs no frame; StoreError when the bytes are lost.
cdef int read_in_place(Core core, VmState vm, vpn_t vpn, uint8_t *out) except -1
