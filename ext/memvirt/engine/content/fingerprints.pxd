from .content cimport Content
from .source_table cimport SourceTable
from ..types cimport hfn_t, uint8_t, uint32_t, uint64_t


cdef class Fingerprints(Content):
    # An id is source:24 | word:9 | tag:31; without a tag, word and tag are 0.
    cdef readonly SourceTable sources
    cdef uint64_t _payload                # the id that compress() hands out
