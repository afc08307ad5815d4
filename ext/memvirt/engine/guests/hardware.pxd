from ..types cimport gfn_t, int64_t, uint32_t, vpn_t


# What a guest, or the host for it, has to do beside what pages go through: the host prices it.
cdef enum GuestWork:
    WORK_MESSAGE = 0            # a message leaves the guest
    WORK_RETURN_PAGE = 1        # a page comes back
    WORK_GIVE_BLOCK = 2         # 2 MiB of free memory are given up as one
    WORK_RETURN_BLOCK = 3
    WORK_OFFLINE_BLOCK = 4      # 2 MiB are unplugged
    WORK_ONLINE_BLOCK = 5
    WORK_CLAIM_BLOCK = 6        # the host takes 2 MiB in the guest's allocator
    WORK_RESTORE_BLOCK = 7
    WORK_UNPLUG_BLOCK = 8       # 2 MiB of a partition are unplugged
    WORK_PLUG_BLOCK = 9


cdef class Hardware:
    # What a guest may ask of the hardware below it. Each answers with an Outcome, but never EMPTY, which a guest says
    # of itself. What is not OK has lost nothing; the guest undoes its own part and hands the outcome to its caller.
    # Slots 0 .. swap_slots - 1 are guest swap; from swap_slots on they are blocks of the file behind the page cache.
    cdef int clear(self, gfn_t gfn) except -1 nogil                     # write zeros over the page
    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil      # fill it with vpn's page of the original file
    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil   # page -> slot
    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil   # slot -> page; the slot keeps its content
    cdef int forget_slot(self, uint32_t slot) except -1 nogil           # its content is needed no more
    cdef int release(self, gfn_t gfn) except -1 nogil                   # the host may drop the page: content is lost
    cdef int release_block(self, gfn_t first) except -1 nogil           # the same of 2 MiB
    cdef int move(self, gfn_t source, gfn_t target) except -1 nogil     # copy a page; the source is needed no more
    cdef int install(self, gfn_t first) except -1 nogil                 # 2 MiB are to have frames before they are used
    cdef void pay(self, GuestWork work, uint32_t times) noexcept nogil
    cdef int64_t now(self) noexcept nogil                               # simulated time of who works
    cdef int64_t count_aside(self) noexcept nogil       # of it, since the last call, what left the guest's processor free
    # What is released until the end is named at once: by a message, or by the host that reads it in the guest.
    cdef int begin_report(self, bint message) except -1 nogil
    cdef uint32_t end_report(self) noexcept nogil                       # pages of which the host held something
    cdef uint32_t count_freed(self) noexcept nogil                      # the same of what was released since the last call
    cdef int flush(self, vpn_t vpn) except -1 nogil                     # drop the cached translation of vpn
    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil
    cdef void rehome(self, const vpn_t *vpn_of) noexcept nogil          # the guest's reverse map lies there from now on
