from ..guests.guest cimport Guest
from ..types cimport uint32_t, uint64_t
from .engine cimport Engine
from .vm cimport Vm


# A VM of this host that is not there yet; one that never runs (a snapshot) has no translations.
cdef Vm new_vm(Engine engine, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs)

# The host has the VM, without memory, or AdmissionError. `first`: frames that it takes beside its own tables before
# anything is its own; `later`: others, of its own and for tables of those; `secured`: it gets some of both by `secure`,
# which leaves more free than tables of fixed size have to. Where all this cannot be had, nobody's pages go.
cdef int admit(Engine engine, Vm vm, uint64_t first, uint32_t reservation, uint64_t later, bint secured) except -1

# AdmissionError unless its reservation can be kept: by free frames, or frames that others can give back.
cdef int set_aside(Engine engine, Vm vm) except -1
# The VM gets this guest, whose tables are paid for even while a clone borrows them: it may need them at any moment.
cdef int give_guest(Engine engine, Vm vm, Guest guest) except -1
# The VM is refused: the next one has its tags and draws.
cdef int undo_vm(Engine engine, Vm vm) except -1
# The seed of what a VM's guest draws: of the host's seed and the VM's number, as its tags are.
cdef uint64_t draws_of(Vm vm) noexcept
