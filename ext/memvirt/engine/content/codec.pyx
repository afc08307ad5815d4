"""The way to a compressor that takes one page without a Python object in between.

The wheels of `lz4` and `zstandard` carry the C libraries inside their extension modules, and export the functions.
So the module is loaded once more by path, which only finds the copy the interpreter already has, and the symbols are
looked up by name. That is no documented interface: each codec therefore proves itself by a round trip when it is
opened, and one that does not resolve or fails is not used.

For lz4 the way out is `lz4.block`, a Python call per page: slow, correct, and of a slightly different length, since
that module compresses by a streaming call. Therefore the route is part of `Codec.route`, which goes into every record;
records of different routes must not share a table.
"""

import ctypes
import importlib.util

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ..types cimport PAGE_SIZE

from memvirt.errors import ConfigError
from memvirt.names import CODECS

# Largest block of lz4 and of zstd for one page: incompressible bytes plus headers, with room to spare.
cdef enum:
    BLOCK_ROOM = 2 * PAGE_SIZE


cdef class Codec:
    cdef uint32_t compress(self, const uint8_t *page, uint8_t *target, uint32_t room) noexcept nogil:
        return 0

    cdef uint32_t decompress(self, const uint8_t *block, uint32_t length, uint8_t *page) noexcept nogil:
        return 0

    def pack(self, page, int room=BLOCK_ROOM):
        """The compressed block of one page, or None when it exceeds `room` bytes."""
        cdef bytes source = bytes(page)
        cdef uint8_t target[BLOCK_ROOM]
        if len(source) != PAGE_SIZE or not 1 <= room <= BLOCK_ROOM:
            raise ConfigError(f"pack takes {PAGE_SIZE} bytes and a room of 1 to {BLOCK_ROOM}, "
                              f"not {len(source)} and {room}")
        cdef uint32_t length = self.compress(<const uint8_t *>PyBytes_AS_STRING(source), target, room)
        return target[:length] if length else None

    def unpack(self, block):
        """The page behind a block, or None when the codec refuses it or it is not exactly a page."""
        cdef bytes source = bytes(block)
        cdef uint8_t page[PAGE_SIZE]
        cdef uint32_t length = self.decompress(<const uint8_t *>PyBytes_AS_STRING(source), len(source), page)
        return page[:PAGE_SIZE] if length == PAGE_SIZE else None


cdef class Lz4(Codec):
    """LZ4's block format through the C functions of the `lz4` wheel, or of the library it was linked with."""

    def __cinit__(self, str name, int level, library):
        cdef bint high = name == "lz4hc"
        self._compress = <lz4_compress_t><uintptr_t>address(
            library, "LZ4_compress_HC_extStateHC" if high else "LZ4_compress_fast_extState")
        self._decompress = <lz4_decompress_t><uintptr_t>address(library, "LZ4_decompress_safe")
        self._state = calloc(1, (library.LZ4_sizeofStateHC if high else library.LZ4_sizeofState)())
        if self._state == NULL:
            raise MemoryError("lz4 state")
        self.name, self.level = name, level
        self.route = f"LZ4 {version(library.LZ4_versionNumber())}, C functions"

    def __dealloc__(self):
        free(self._state)

    cdef uint32_t compress(self, const uint8_t *page, uint8_t *target, uint32_t room) noexcept nogil:
        cdef int length = self._compress(self._state, <const char *>page, <char *>target, PAGE_SIZE, <int>room,
                                         self.level)
        return length if length > 0 else 0

    cdef uint32_t decompress(self, const uint8_t *block, uint32_t length, uint8_t *page) noexcept nogil:
        cdef int produced = self._decompress(<const char *>block, <char *>page, <int>length, PAGE_SIZE)
        return produced if produced > 0 else 0


cdef class Lz4Python(Codec):
    """The same format through lz4.block, one Python call per page: for an lz4 whose C functions cannot be reached."""

    def __cinit__(self, str name, int level):
        import lz4
        import lz4.block
        self._block = lz4.block
        self._mode = {"mode": "high_compression", "compression": level} if name == "lz4hc" else {
            "mode": "fast", "acceleration": level}
        self.name, self.level = name, level
        self.route = f"LZ4 {lz4.library_version_string()}, lz4.block {lz4.__version__}"

    cdef uint32_t compress(self, const uint8_t *page, uint8_t *target, uint32_t room) noexcept nogil:
        with gil:
            return into(self._block.compress(page[:PAGE_SIZE], store_size=False, **self._mode), target, room)

    cdef uint32_t decompress(self, const uint8_t *block, uint32_t length, uint8_t *page) noexcept nogil:
        with gil:
            try:
                return into(self._block.decompress(block[:length], uncompressed_size=PAGE_SIZE), page, PAGE_SIZE)
            except self._block.LZ4BlockError:
                return 0


cdef uint32_t into(bytes produced, uint8_t *target, uint32_t room):
    """Copy what lz4.block produced to where it belongs; its length, or 0 when it does not fit."""
    if PyBytes_GET_SIZE(produced) > room:
        return 0
    memcpy(target, PyBytes_AS_STRING(produced), PyBytes_GET_SIZE(produced))
    return <uint32_t>PyBytes_GET_SIZE(produced)


cdef class Zstd(Codec):
    """Zstandard frames through the C functions inside the `zstandard` wheel's cffi module."""

    def __cinit__(self, str name, int level, library):
        self._compress = <zstd_compress_t><uintptr_t>address(library, "ZSTD_compressCCtx")
        self._decompress = <zstd_decompress_t><uintptr_t>address(library, "ZSTD_decompressDCtx")
        self._free_packer = <zstd_free_t><uintptr_t>address(library, "ZSTD_freeCCtx")
        self._free_unpacker = <zstd_free_t><uintptr_t>address(library, "ZSTD_freeDCtx")
        for create in (library.ZSTD_createCCtx, library.ZSTD_createDCtx):
            create.restype = ctypes.c_void_p
        self._packer = <void *><uintptr_t>(library.ZSTD_createCCtx() or 0)
        self._unpacker = <void *><uintptr_t>(library.ZSTD_createDCtx() or 0)
        if self._packer == NULL or self._unpacker == NULL:
            raise MemoryError("zstd contexts")
        self.name, self.level = name, level
        self.route = f"Zstandard {version(library.ZSTD_versionNumber())}, C functions"

    def __dealloc__(self):
        if self._packer != NULL:
            self._free_packer(self._packer)
        if self._unpacker != NULL:
            self._free_unpacker(self._unpacker)

    # A zstd function reports an error as a size_t close to its maximum: anything beyond the room given is one.
    cdef uint32_t compress(self, const uint8_t *page, uint8_t *target, uint32_t room) noexcept nogil:
        cdef size_t length = self._compress(self._packer, target, room, page, PAGE_SIZE, self.level)
        return <uint32_t>length if length <= room else 0

    cdef uint32_t decompress(self, const uint8_t *block, uint32_t length, uint8_t *page) noexcept nogil:
        cdef size_t produced = self._decompress(self._unpacker, page, PAGE_SIZE, block, length)
        return <uint32_t>produced if produced <= PAGE_SIZE else 0


def address(library, str symbol):
    """The address of an exported C function; AttributeError when the library does not export it."""
    return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value


def version(int number):
    """10904 -> "1.9.4": how both libraries count."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def open_codec(str name="lz4", level=None, str route="auto"):
    """The codec `name` at a level (see CODECS), tried by a round trip before it is handed out.

    route: "c" insists on the C functions, "python" on lz4.block, "auto" prefers C and falls back where it can.
    Raises ConfigError for an unknown name, a level out of range, or a codec that this installation cannot reach.
    """
    if name not in CODECS:
        raise ConfigError(f"unknown codec {name!r}: choose one of {', '.join(CODECS)}")
    if route not in ("auto", "c", "python"):
        raise ConfigError(f"unknown codec route {route!r}: choose auto, c or python")
    codec = CODECS[name]
    level = codec.default if level is None else level
    if not codec.lowest <= level <= codec.highest or (codec.few and level not in codec.few):
        allowed = f"one of {', '.join(map(str, codec.few))}" if codec.few else f"{codec.lowest} to {codec.highest}"
        raise ConfigError(f"{codec.meaning} {level} of codec {name}: must be {allowed}")
    reasons = []
    for attempt in attempts(name, level, route):
        try:
            return proved(attempt())
        except (ImportError, OSError, AttributeError, ConfigError) as error:
            reasons.append(str(error))
    raise ConfigError(f"codec {name} by route {route} cannot be reached: {'; '.join(reasons) or 'no such route'}. "
                      f"Install a wheel that carries it: pip install {codec.package}")


def lz4_library():
    import lz4.block
    return ctypes.CDLL(lz4.block._block.__file__)


def zstd_library():
    module = importlib.util.find_spec("zstandard._cffi")  # not imported: that would need the cffi package
    if module is None:
        raise ConfigError("this zstandard has no cffi module, the only one of its modules that exports zstd")
    return ctypes.CDLL(module.origin)


# Codec -> how its C functions are reached, the kind that calls them, and the kind that does without; None: none does.
ROUTES = {
    "lz4": (lz4_library, Lz4, Lz4Python),
    "lz4hc": (lz4_library, Lz4, Lz4Python),
    "zstd": (zstd_library, Zstd, None),
}


def attempts(name, level, route):
    """The constructors worth trying, best first."""
    library, through_c, through_python = ROUTES[name]
    found = [lambda: through_c(name, level, library())] if route != "python" else []
    if route != "c" and through_python is not None:
        found.append(lambda: through_python(name, level))
    return found


def proved(Codec codec):
    """The codec, if pages of several kinds come back from it as they went in and a cut block is refused."""
    samples = [bytes(PAGE_SIZE), bytes(range(256)) * 16, b"".join((i * 2654435761 % 2**32).to_bytes(4, "little")
                                                                  for i in range(PAGE_SIZE // 4))]
    for page in samples:
        block = codec.pack(page)
        if block is None or codec.unpack(block) != page or codec.unpack(block[:len(block) - 1]) is not None:
            raise ConfigError(f"{codec.route} fails its round trip")
    return codec
