"""Slots for pages that are out of memory, in a real file.

Which slots are taken, and which come next, is for slots.pyx to say.

The file is a temporary one without a name, unless a path is given. Its space is reserved when it is made: a full disk
is an error then, not in the middle of a run. A transfer that fails leaves its slot taken and its page where it was;
the caller decides. What comes back is not verified here: backing records carry the checksums.
"""

import errno as errors
import os
import tempfile

import cython

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset, strdup
from posix.stdlib cimport posix_memalign

from ..device cimport Device
from .slots cimport Slots
from .swapspace cimport SwapSpace
from ..types cimport NONE, OK, PAGE_SIZE

from memvirt.engine.stores.swapspace import MAX_SLOTS
from memvirt.errors import ConfigError, InvariantError

cdef extern from "stores/swapio.h" nogil:
    enum:
        MV_BATCH
        MV_READ
        MV_WRITE
        MV_SHORT
    uint32_t mv_swap_run(mv_area *area, int way, uint8_t **pages, uint32_t n, uint32_t slot, uint32_t begun)
    int mv_begin(mv_area *area, uint8_t **pages, uint32_t n, uint32_t slot)
    void mv_flight_close(mv_flight *flight)

cdef extern from "<fcntl.h>" nogil:
    enum:
        FALLOC_FL_KEEP_SIZE
        FALLOC_FL_PUNCH_HOLE
    int fallocate(int fd, int mode, long offset, long length)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int ftruncate(int fd, long length)
    int getpid()
    int unlink(const char *path)


@cython.final
cdef class Swap(SwapSpace):
    """One swap area.

    slots       1 to 2^32 - 2
    path        a file that does not exist yet, made here and removed at the end; None: a temporary file without a
                name, in $MEMVIRT_SWAP_DIR or else where the system puts such files
    slot_bytes  4096; or 8, for the ids of fingerprint content: then the slots are in memory, without a file
    direct      use O_DIRECT where the file system can; `direct_io` says whether it does
    cluster     slots of a cluster: a power of two, 64 to 65536
    discard     punch clusters out of the file when they become free, and take from free ones first. Their space is then
                no longer reserved: on a disk that others fill meanwhile, a later write fails with ENOSPC.

    Raises ConfigError for sizes out of range, a path that cannot be made, and a disk without the space.
    """

    def __cinit__(self, slots, path=None, slot_bytes=PAGE_SIZE, bint direct=True, cluster=512, bint discard=False,
                  Device device=None):
        self._area.fd = -1
        self._process = getpid()
        if not 1 <= slots <= MAX_SLOTS:
            raise ConfigError(f"{slots} swap slots: must be 1 to {MAX_SLOTS}")
        if slot_bytes not in (8, PAGE_SIZE):
            raise ConfigError(f"swap slots of {slot_bytes} bytes: must be {PAGE_SIZE}, or 8 for fingerprints")
        if not 64 <= cluster <= 65536 or cluster & (cluster - 1):
            raise ConfigError(f"swap clusters of {cluster} slots: must be a power of two, 64 to 65536")
        if slot_bytes == 8 and path is not None:
            raise ConfigError(f"swap file {path}: fingerprints swap to memory, without a file")
        self.nr_slots, self.slot_bytes, self._area.unit = slots, slot_bytes, slot_bytes
        self.slots = Slots(slots, cluster, free_first=discard)
        self.discard, self.device = discard, device
        if slot_bytes == 8:
            self._area.memory = <uint8_t *>calloc(self.nr_slots, 8)
            if self._area.memory == NULL:
                raise MemoryError(f"{slots} swap slots of 8 bytes")
        else:
            self._open(path, direct)

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        mv_flight_close(&self._area.flight)
        free(self._area.memory)
        free(self._area.bounce)
        self._area.memory = self._area.bounce = NULL
        if self._area.fd >= 0:
            close(self._area.fd)
        self._area.fd = -1
        if self._remove != NULL:
            if getpid() == self._process:
                unlink(self._remove)
            free(self._remove)
            self._remove = NULL

    def _open(self, path, direct):
        needed = int(self.nr_slots) * int(PAGE_SIZE)    # 64 bits: the C product would wrap
        place = place_of(path)
        folder = (os.path.dirname(os.path.abspath(path)) if path else place)
        try:
            require_space(folder, needed)
            self._make_file(path, folder)
            os.posix_fallocate(self._area.fd, 0, needed)
        except OSError as error:
            raise no_space(error, place, folder, needed) from error
        self._set_direct(direct)

    def _make_file(self, path, folder):
        if path is None:
            self._area.fd = nameless(folder)
        else:
            self._area.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.path = os.path.abspath(path)
            self._remove = strdup(os.fsencode(self.path))

    cdef int grow(self, uint32_t slots) except -1:
        cdef uint64_t wanted = <uint64_t>self.nr_slots + slots
        cdef void *memory
        assert wanted <= MAX_SLOTS
        if self._area.memory != NULL:
            memory = realloc(self._area.memory, wanted * self.slot_bytes)
            if memory == NULL:
                raise MemoryError(f"{wanted} swap slots of {self.slot_bytes} bytes")
            self._area.memory = <uint8_t *>memory
        else:
            self._lengthen(int(slots) * int(PAGE_SIZE))
        self.slots.grow(slots)
        self.nr_slots = self.slots.nr_slots
        return 0

    def _lengthen(self, needed):
        begin = int(self.nr_slots) * int(PAGE_SIZE)
        try:
            require_space(self._area.fd, needed)
            os.posix_fallocate(self._area.fd, begin, needed)
        except BaseException as error:
            ftruncate(self._area.fd, begin)             # it may have got a part
            if isinstance(error, OSError):
                raise no_space(error, place_of(self.path), self._area.fd, needed) from error
            raise

    cdef void cut(self, uint32_t least) noexcept:
        if getpid() != self._process:                   # the file is another process's
            return
        self.slots.cut(least)
        if self.slots.nr_slots < self.nr_slots and self._area.memory == NULL:
            ftruncate(self._area.fd, <long>self.slots.nr_slots * PAGE_SIZE)     # best effort, as a punch is
        self.nr_slots = self.slots.nr_slots

    def _set_direct(self, wanted):
        """Turn O_DIRECT on if a page then really goes out and in again: some file systems accept the flag only."""
        import fcntl
        cdef uint8_t *page
        if posix_memalign(<void **>&self._area.bounce, PAGE_SIZE, MV_BATCH * PAGE_SIZE):
            raise MemoryError("swap's bounce buffer")
        if not wanted:
            return
        flags = fcntl.fcntl(self._area.fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._area.fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return
        page = self._area.bounce
        memset(page, 0, PAGE_SIZE)
        self.direct_io = (mv_swap_run(&self._area, MV_WRITE, &page, 1, 0, 0) == 1
                          and mv_swap_run(&self._area, MV_READ, &page, 1, 0, 0) == 1)
        self._area.direct = self.direct_io
        self._area.error = 0
        memset(self._area.calls, 0, sizeof(self._area.calls))
        if not self.direct_io:
            fcntl.fcntl(self._area.fd, fcntl.F_SETFL, flags)

    def metadata_bytes(self):
        return self.slots.metadata_bytes()

    def attach(self, Device device not None):
        if self.device is None:
            self.device = device

    cdef int64_t submit(self, bint write, int64_t now, uint32_t slot, uint32_t pages) noexcept nogil:
        return self.device.write(now, pages) if write else self.device.read(now, pages)

    cdef bint in_use(self, uint32_t slot) noexcept nogil:
        return self.slots.in_use(slot)

    cdef bint at_cluster_end(self) noexcept nogil:
        return self.slots.at_cluster_end()

    cdef uint32_t take(self, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil:
        cdef uint32_t got = 0, part
        while got < n:
            part = self.take_in_cluster(n - got, slots + got)
            if part == 0:
                break
            got += part
        return got

    cdef uint32_t take_in_cluster(self, uint32_t n, uint32_t *slots) noexcept nogil:
        """Up to n slots of one cluster; 0 only when the area is full."""
        cdef uint32_t got = self.slots.take(n, slots)
        self.nr_used = self.slots.nr_used
        return got

    cdef int give(self, uint32_t slot) except -1 nogil:
        cdef uint32_t freed
        if not self.slots.in_use(slot):
            with gil:
                raise InvariantError(f"swap slot {slot} given back but not in use; the area has {self.nr_slots}")
        freed = self.slots.give(slot)
        self.nr_used = self.slots.nr_used
        if freed != NONE and self.discard:
            self.punch(freed)
        return OK

    cdef void punch(self, uint32_t cluster) noexcept nogil:
        """Give the cluster's blocks back. Best effort: without it, space is merely kept."""
        cdef uint32_t first = cluster * self.slots.cluster_slots
        if self._area.memory == NULL:
            fallocate(self._area.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      <long>first * self.slot_bytes, <long>(self.slots.cluster_end(cluster) - first) * self.slot_bytes)
        self.discards += 1

    cdef void begin_write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages) noexcept nogil:
        cdef uint32_t i, first = 0, length
        for i in range(n):
            if not self.in_use(slots[i]):
                return
        while first < n:
            length = self.run(n - first, slots + first)
            if not mv_begin(&self._area, <uint8_t **>pages + first, length, slots[first]):
                return
            first += length

    cdef uint32_t write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages,
                        uint8_t *done) except? 0xFFFFFFFF nogil:
        cdef uint32_t worked = self.move(MV_WRITE, n, slots, <uint8_t **>pages, done)
        self._area.flight.begun = 0
        self.write_calls = self._area.calls[MV_WRITE]
        self.write_failures += n - worked
        return worked

    cdef uint32_t read_batch(self, uint32_t n, const uint32_t *slots, uint8_t **pages,
                             uint8_t *done) except? 0xFFFFFFFF nogil:
        cdef uint32_t worked = self.move(MV_READ, n, slots, pages, done)
        self.read_calls = self._area.calls[MV_READ]
        self.read_failures += n - worked
        return worked

    cdef uint32_t run(self, uint32_t n, const uint32_t *slots) noexcept nogil:
        """Number of these slots, from the first on, that one call can move."""
        cdef uint32_t length = 1
        while length < n and length < MV_BATCH and slots[length] == slots[0] + length:
            length += 1
        return length

    cdef uint32_t move(self, int way, uint32_t n, const uint32_t *slots, uint8_t **pages,
                       uint8_t *done) except? 0xFFFFFFFF nogil:
        """Transfer runs of neighbouring slots. A run that fails half way has its first part done; the next is tried."""
        cdef uint32_t i, moved, first = 0, length, worked = 0, nr_runs = 0
        for i in range(n):
            if not self.in_use(slots[i]):
                with gil:
                    raise InvariantError(f"swap slot {slots[i]} read or written but not in use; "
                                         f"the area has {self.nr_slots}")
        while first < n:
            length = self.run(n - first, slots + first)
            moved = mv_swap_run(&self._area, way, pages + first, length, slots[first], nr_runs)
            nr_runs += 1
            for i in range(length):
                done[first + i] = i < moved
            worked += moved
            first += length
        if worked < n:
            self.last_errno = self._area.error
        return worked

    def inject(self, str call, nth, fault, times=1):
        """Make a later system call fail, for tests.

        call   "write" or "read"
        nth    which of them: 1 is the next
        fault  an errno, or "short": the call moves half of what it was asked to
        times  how many calls in a row

        The calls of writes that are begun come in the order of their runs, and only then those that take up the rest of
        a run that fell short.
        """
        if call not in ("read", "write") or nth < 1 or times < 0 or not (fault == "short" or 0 < fault < 4096):
            raise ConfigError(f"inject({call!r}, {nth}, {fault!r}, {times}): read or write, from 1, an errno or "
                              "'short'")
        way = MV_WRITE if call == "write" else MV_READ
        self._area.skip[way], self._area.times[way] = nth - 1, times
        self._area.fault[way] = MV_SHORT if fault == "short" else fault

    cpdef object check(self):
        """Raises InvariantError if the maps of slots disagree, or a write was begun and not finished."""
        if self.device is not None:
            self.device.check()
        if self._area.flight.begun:
            raise InvariantError(f"swap: {self._area.flight.begun} writes were begun and never finished")
        self.slots.check()
        if self.nr_used != self.slots.nr_used:
            raise InvariantError(f"swap: {self.slots.nr_used} slots in use, {self.nr_used} counted")


def place_of(path):
    """Where the file lies, as messages name it."""
    return path or os.environ.get("MEMVIRT_SWAP_DIR") or tempfile.gettempdir()


def available_in(where):
    """Bytes that are free on the file system of a path or descriptor."""
    space = os.statvfs(where)
    return space.f_bavail * space.f_frsize


def require_space(where, needed):
    """OSError unless so many bytes are free there."""
    if needed > available_in(where):
        raise OSError(errors.ENOSPC, os.strerror(errors.ENOSPC))


def no_space(error, place, where, needed):
    """The ConfigError that an OSError becomes."""
    if error.errno in (errors.ENOSPC, errors.EDQUOT, errors.EFBIG):
        return ConfigError(f"swap file {place}: {error.strerror}: needs {needed} bytes, {available_in(where)} are free. "
                           "Free some, or name another place by MEMVIRT_SWAP_DIR")
    return ConfigError(f"swap file {place}: {error.strerror}")


def nameless(folder):
    """The descriptor of a new file without a name: it ends with the process, however that ends. Where the file system has
    no such thing (NFS, overlays of old kernels) it has a name for a moment."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errors.EOPNOTSUPP, errors.EISDIR, errors.ENOENT, errors.EINVAL):
            raise
    handle, name = tempfile.mkstemp(prefix="memvirt-swap-", dir=folder)
    os.unlink(name)
    return handle
