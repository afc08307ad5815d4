from ..guests.guest cimport Guest
from ..types cimport uint32_t, uint64_t
from .engine cimport Engine
from .vm cimport Vm


# A VM without memory; one that never runs (a snapshot) has no translations and no place among the VMs. `further`: frames
# that it will need at once, at least; where those cannot be had, nobody's pages go for the rest.
cdef Vm new_vm(Engine engine, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs, uint64_t further)
# AdmissionError unless its reservation can be kept: by free frames, or frames that others can give back.
cdef int set_aside(Engine engine, Vm vm) except -1
# The VM gets this guest, whose tables are paid for even while a clone borrows them: it may need them at any moment.
cdef int give_guest(Engine engine, Vm vm, Guest guest) except -1
# The VM is refused: the next one has its tags and draws.
cdef int undo_vm(Engine engine, Vm vm) except -1
# The seed of what a VM's guest draws: of the host's seed and the VM's number, as its tags are.
cdef uint64_t draws_of(Vm vm) noexcept
