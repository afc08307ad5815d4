from .engine cimport Engine
from .vm cimport Vm
from ..types cimport uint8_t, vpn_t


# Copy the content of a page into out (content.raw_bytes of it). Needs no frame; StoreError when the bytes are lost.
cdef int read_in_place(Engine engine, Vm vm, vpn_t vpn, uint8_t *out) except -1
