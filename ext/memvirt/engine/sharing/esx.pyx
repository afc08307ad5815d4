"""Content-based page sharing as VMware ESX Server does it (Waldspurger, OSDI 2002, section 4).

One hash table holds merged pages and *hints*: pages that were looked at and had no match, with the hash they had then.
A hint is not protected. When another page has its hash, the hint's page is hashed again; if it has changed the hint is
stale and gives way, else the two are compared and merged. (So a page is merged on first sight of its second copy, where
ksm needs two looks at each.)

Pages are drawn at random, each VM's in an order of its own, every page once per pass. The rate is bounded per VM and
per host; VMs take turns. A page that reclaim is about to write out is always looked up first.

The random order is a permutation computed, not stored: 0 .. 2^b - 1 through two multiplications by odd numbers and two
shifts, each of which is a bijection, skipping numbers beyond the VM. full_scans counts passes over single VMs.
"""

from ..counters cimport CPU_SCAN
from ..types cimport MAX_VMS, NONE, NONE16, gfn_t, hfn_t, int64_t, uint32_t, uint64_t, vmid_t
from .scanner cimport Scanner
from ..splitmix cimport mix

cdef int64_t SECOND_NS = 1_000_000_000


cdef inline int bits_for(uint64_t n) noexcept nogil:
    """Smallest b with 2^b >= n."""
    cdef int bits = 0
    while (<uint64_t>1 << bits) < n:
        bits += 1
    return bits


cdef inline uint64_t permute(uint64_t x, uint64_t order, int bits) noexcept nogil:
    """Image of x in one of many permutations of 0 .. 2^bits - 1."""
    cdef uint64_t mask = (<uint64_t>1 << bits) - 1
    cdef int shift = bits // 2 + 1
    x = (x * (mix(order) | 1) + mix(order + 1)) & mask
    x ^= x >> shift
    x = (x * (mix(order + 2) | 1)) & mask
    return x ^ (x >> shift)


cdef class EsxScanner(Scanner):
    """Rates are in pages per simulated second."""

    def __init__(self, index, pages_per_s, vm_pages_per_s, scan_time_ns, seed):
        slice = max(1, pages_per_s // 100)
        Scanner.__init__(self, index, slice, slice * SECOND_NS // pages_per_s)
        self.vm_pages_per_s = vm_pages_per_s
        self.scan_time_ns = scan_time_ns
        self.seed = seed
        self.index.use_table()
        self.index.rehash_hints = True
        self.index.last_chance = True

    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        cdef uint32_t merged = 0, looked = 0, n
        cdef int64_t pause
        cdef vmid_t vm
        cdef hfn_t frame
        cdef bint ended
        if pages == NONE:
            return self._whole_pass()
        while looked < pages and not self.clock.interrupt.asked():
            vm = self._next_vm()
            if vm == NONE16:
                break
            n = self.index.mapping.leaves.directory[vm].nr_pages
            pause = max(SECOND_NS / self.vm_pages_per_s, self.scan_time_ns / n)
            self.ready_ns[vm] = max(self.ready_ns[vm], self.clock.now) + pause
            frame = self._draw(vm, &ended)
            looked += 1
            if frame != NONE:
                merged += self._visit(frame)
        return merged

    cdef uint32_t _whole_pass(self) except? 0xFFFFFFFF nogil:
        """Every page of every VM once, whatever the rates; what was begun of a pass is begun anew."""
        cdef uint32_t merged = 0, vm
        cdef hfn_t frame
        cdef bint ended
        for vm in range(MAX_VMS):
            if not self.index.mapping.charges.of[vm].open:
                continue
            self.step[vm] = 0
            self.met[vm] = False
            ended = False
            while not ended and not self.clock.interrupt.asked():
                frame = self._draw(<vmid_t>vm, &ended)
                if frame != NONE:
                    merged += self._visit(frame)
        return merged

    cdef vmid_t _next_vm(self) noexcept nogil:
        """The VM whose turn it is and whose rate allows it, or NONE16."""
        cdef uint32_t i, vm
        for i in range(MAX_VMS):
            vm = (self.turn + i) % MAX_VMS
            if self.index.mapping.charges.of[vm].open and self.ready_ns[vm] <= self.clock.now:
                self.turn = vm + 1
                return <vmid_t>vm
        return NONE16

    cdef hfn_t _draw(self, vmid_t vm, bint *ended) noexcept nogil:
        """The next mergeable frame in the VM's random order, or NONE when its pass ended before there was one."""
        cdef uint64_t n = self.index.mapping.leaves.directory[vm].nr_pages, page
        cdef int bits = bits_for(n)
        cdef uint64_t end = <uint64_t>1 << bits
        cdef hfn_t frame = NONE
        cdef gfn_t next
        while self.step[vm] < end and frame == NONE:
            page = permute(self.step[vm], mix(self.seed) ^ mix(self.order[vm] * MAX_VMS + vm), bits)
            self.step[vm] += 1
            if page < n:
                frame = self.frame_at(vm, <gfn_t>page, &next)
                if frame != NONE and not self.index.mergeable(frame):
                    frame = NONE
        ended[0] = self.step[vm] == end
        if ended[0]:
            self.step[vm] = 0
            self.order[vm] += 1
            self.full_scans += self.met[vm] or frame != NONE
            self.met[vm] = False
        elif frame != NONE:
            self.met[vm] = True
        return frame

    cdef bint _visit(self, hfn_t frame) except? True nogil:
        self.pages_scanned += 1
        self.clock.spend(CPU_SCAN, self.clock.costs.scan_visit)
        return self.index.try_share(frame)

    cdef void forget_vm(self, vmid_t vm) noexcept nogil:
        self.step[vm] = 0
        self.met[vm] = False
        self.order[vm] = 0
        self.ready_ns[vm] = 0
