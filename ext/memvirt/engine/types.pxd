# The words every part of the engine speaks. A *number* is never an *address*.
#
#   gpa  guest-physical address         gfn = gpa >> 12     guest frame number
#   vpn  guest-virtual page number (equals gfn for a VM without a guest model)
#   hfn  host frame number              backing             id of one content that is out of memory
#   leaf id of a leaf table             site = leaf * 512 + index: one entry, wherever it is mapped
#
# NONE marks "no such thing" in any of these 32-bit id spaces.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

ctypedef uint32_t gfn_t
ctypedef uint32_t vpn_t
ctypedef uint32_t hfn_t
ctypedef uint32_t backing_t
ctypedef uint32_t leaf_t
ctypedef uint32_t site_t
ctypedef uint16_t vmid_t

cdef enum:
    PAGE_SHIFT = 12
    PAGE_SIZE = 4096
    PAGE_WORDS = 512            # 8-byte words in a page
    LEAF_SHIFT = 9
    LEAF_ENTRIES = 512          # entries of a leaf table: 2 MiB of guest-physical memory
    HUGE_ORDER = 9              # buddy order of a 2 MiB block
    MAX_ORDER = 10              # largest buddy order: 4 MiB, as in Linux
    NONE16 = 0xFFFF
    MAX_VMS = 4096              # VMs a host can have at once; ids are reused

cdef enum:
    NONE = 0xFFFFFFFF

# Outcomes: exhaustion is a value (>= 0); -1 is left to Cython for "an exception is set".
cdef enum Outcome:
    OK = 0
    NO_FRAME = 1                # the allocator has no free block that fits
    NO_SLOT = 2                 # the swap areas are full
    POOL_FULL = 3               # the compressed cache is at its limit (or inside its hysteresis)
    REJECTED = 4                # a store declines the page (does not compress, too big)
    IO_FAILED = 5               # a write or read failed; the page stays where it was
    CORRUPT = 6                 # bytes came back that do not match their checksum
    LIMITED = 7                 # the VM's own limit forbids it
    REFUSED = 8                 # admission or a balloon says no
    EMPTY = 9                   # nothing to hand out (an order without candidates, a drained queue)
    AGAIN = 10                  # done, but entries may have changed on the way: look again. Stays within the fault handlers
