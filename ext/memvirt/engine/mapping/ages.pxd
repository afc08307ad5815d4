from ..types cimport MAX_VMS, hfn_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t

cdef enum:
    AGES = 128                  # ages told apart: 0 .. 126 intervals, and older
    AGE_MASK = 0x7F
    AGE_TOUCHED = 0x80          # accessed since the last harvest


cdef class Ages:
    # For how many harvests pages have not been accessed, per frame and as histograms per VM.
    cdef uint8_t *_age                      # [nr_frames]: age at the last harvest, and AGE_TOUCHED
    cdef readonly uint32_t nr_frames, harvests
    cdef uint32_t _end                      # VMs there have been, by id
    cdef uint32_t *_cold                    # [MAX_VMS][AGES]: pages of that age at the last harvest
    cdef uint64_t *_promoted                # [MAX_VMS][AGES]: pages accessed at that age, since the VM began
    cdef uint64_t *_marked                  # [MAX_VMS][AGES]: the same as of the VM's last mark

    cdef inline void touch(self, hfn_t frame) noexcept nogil:
        self._age[frame] |= AGE_TOUCHED

    cdef inline void begin(self, hfn_t frame) noexcept nogil:
        """The frame got a page that is accessed now."""
        self._age[frame] = AGE_TOUCHED

    cdef inline uint32_t idle(self, hfn_t frame) noexcept nogil:
        """Its age, 0 if it was accessed since the last harvest."""
        return 0 if self._age[frame] & AGE_TOUCHED else self._age[frame]

    cdef inline void move(self, hfn_t source, hfn_t target) noexcept nogil:
        self._age[target] = self._age[source]

    # The page goes out: the harvest after which it was last accessed. With that it comes back for a VM.
    cdef uint16_t leave(self, hfn_t frame) noexcept nogil
    cdef void come_back(self, uint16_t seen, vmid_t vm) noexcept nogil
    cdef void clear(self) noexcept nogil                                # a harvest begins to count
    cdef void count(self, hfn_t frame, vmid_t vm) noexcept nogil        # one frame of the harvest
    cdef void open(self, vmid_t vm) noexcept nogil
    # The highest age that at least `pages` pages of the VM have or exceed.
    cdef uint32_t age_for(self, vmid_t vm, uint32_t pages) noexcept nogil
    # For a snapshot. The greatest age of the VM's that there is a page or was a promotion of, in harvests; 0: none.
    cdef uint32_t oldest(self, vmid_t vm) noexcept nogil
    # Of each age from 1 on the pages at least that old, and the promotions at least that old since `mark`: the VM's whole
    # history ends with age `oldest`, and so do the two arrays.
    cdef void see(self, vmid_t vm, uint32_t oldest, int64_t *cold, int64_t *promoted) noexcept nogil
    cdef void mark(self, vmid_t vm) noexcept nogil                      # from now on `see` tells of promotions that come
