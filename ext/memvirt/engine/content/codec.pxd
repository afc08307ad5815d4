from ..types cimport uint8_t, uint32_t

ctypedef int (*lz4_compress_t)(void *, const char *, char *, int, int, int) noexcept nogil
ctypedef int (*lz4_decompress_t)(const char *, char *, int, int) noexcept nogil
ctypedef size_t (*zstd_compress_t)(void *, void *, size_t, const void *, size_t, int) noexcept nogil
ctypedef size_t (*zstd_decompress_t)(void *, void *, size_t, const void *, size_t) noexcept nogil
ctypedef size_t (*zstd_free_t)(void *) noexcept nogil


cdef class Codec:
    # One page in, one block out, and back. An instance owns its working state: not to be shared between threads.
    cdef readonly str name        # "lz4", "lz4hc", "zstd"
    cdef readonly int level       # lz4: acceleration; lz4hc, zstd: compression level
    cdef readonly str route       # library, version and the way to it: part of every record

    # Compress one page into at most `room` bytes of `target`. Returns the length, or 0 when it does not fit; a codec
    # may refuse what would only just fit, so give the same room where lengths are to agree.
    cdef uint32_t compress(self, const uint8_t *page, uint8_t *target, uint32_t room) noexcept nogil
    # Returns the bytes produced, PAGE_SIZE when all is well; 0 when the codec refuses. Never writes past one page.
    cdef uint32_t decompress(self, const uint8_t *block, uint32_t length, uint8_t *page) noexcept nogil


cdef class Lz4(Codec):                # both lz4 and lz4hc: their C functions have one signature
    cdef void *_state
    cdef lz4_compress_t _compress
    cdef lz4_decompress_t _decompress


cdef class Zstd(Codec):
    cdef void *_packer
    cdef void *_unpacker
    cdef zstd_compress_t _compress
    cdef zstd_decompress_t _decompress
    cdef zstd_free_t _free_packer
    cdef zstd_free_t _free_unpacker


cdef class Lz4Python(Codec):          # through lz4.block: a Python call per page
    cdef object _block
    cdef dict _mode
