"""What a decider is told of VMs: numbers of all of them in one call, a row of each kind and a column for each VM.

A decision looks at every VM of its host. Asked one by one, with an object for each answer, 1,000 VMs took longer than most
rules do. `see` fills a table of the caller's, `see_ages` makes one of cold ages; `mark` says that a decision is made on
what was last seen, and from there promotions are counted and stalls are added up.
"""

import numpy as np

from ..guests.guest_memory cimport GuestMemory
from ..mapping.charges cimport Account
from ..stall cimport Pressure, hundredths
from ..types cimport NONE, int64_t, uint32_t
from .vm cimport Vm

FIELDS = (
    "configured_pages", "held_pages", "balloon_pages", "active_pages", "shares", "reservation_pages", "limit_pages",
    "guest_free_pages", "guest_cache_pages", "stall_ns", "stall_avg10", "stall_avg60", "balloonable",
)                                           # rows of what `see` fills
NO_LIMIT = 0x7FFFFFFFFFFFFFFF               # limit_pages of a VM that has none


def see(list vms, int64_t[:, ::1] out):
    """Fill out[field, vm], fields as in FIELDS: what a decider is told of each, but its ages. ConfigError if one has
    ended."""
    cdef Vm vm
    cdef GuestMemory memory
    cdef const Account *account
    cdef const Pressure *stalled
    cdef Py_ssize_t at
    if out.shape[0] != len(FIELDS) or out.shape[1] != len(vms):
        raise ValueError(f"a table of {len(FIELDS)} x {len(vms)} is needed")
    _require(vms)
    for at, vm in enumerate(vms):
        account = &vm.mapping.charges.of[vm.id]
        stalled = vm.stalls.look(vm.id, vm.now_ns)
        memory = None if vm.guest is None else vm.guest.memory
        out[0, at] = vm.nr_pages
        out[1, at] = account.charged
        out[2, at] = 0 if memory is None else memory.nr_balloon
        out[3, at] = account.active
        out[4, at] = account.shares
        out[5, at] = account.reservation
        out[6, at] = NO_LIMIT if account.limit == NONE else account.limit
        out[7, at] = 0 if memory is None else memory.buddy.nr_free
        out[8, at] = 0 if memory is None or memory.cache is None else memory.cache.nr_resident
        out[9, at] = stalled.total_ns - vm.marked_ns
        out[10, at] = hundredths(stalled, 0)
        out[11, at] = hundredths(stalled, 1)
        out[12, at] = memory is not None


def see_ages(list vms):
    """Of each VM how many ages it has, from 1 harvest on, and for each that any VM has: the pages at least that old, and
    promotions at least that old since `mark`. Arrays (vms), (vms, ages), (vms, ages); ages that a VM has not are 0."""
    cdef Vm vm
    cdef Py_ssize_t at
    _require(vms)
    oldest = np.zeros(len(vms), np.int64)
    cdef int64_t[::1] as_oldest = oldest
    for at, vm in enumerate(vms):
        as_oldest[at] = vm.mapping.ages.oldest(vm.id)
    cold, promoted = np.zeros((2, len(vms), oldest.max(initial=0)), np.int64)
    cdef int64_t[:, ::1] as_cold = cold, as_promoted = promoted
    for at, vm in enumerate(vms):
        if as_oldest[at]:
            vm.mapping.ages.see(vm.id, <uint32_t>as_oldest[at], &as_cold[at, 0], &as_promoted[at, 0])
    return oldest, cold, promoted


def mark(list vms, bint ages):
    """A decision is made on what VMs were last seen to be, and nothing has happened since: the next one is told what
    happens from here on; of ages if this one was."""
    cdef Vm vm
    _require(vms)
    for vm in vms:
        vm.marked_ns = vm.stalls.look(vm.id, vm.now_ns).total_ns
        if ages:
            vm.mapping.ages.mark(vm.id)


cdef int _require(list vms) except -1:
    """ConfigError if one has ended. They are of one host, and that is asked but once whether it answers: a call of the
    kernel for each of 1,000 VMs takes longer than all that is told of them."""
    cdef Vm vm
    for vm in vms:
        if vm is None:
            raise TypeError("None is no VM")
        if not vm.alive or vm is vms[0]:
            vm.require()
    return 0
