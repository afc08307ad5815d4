from .engine cimport Engine
from .vm cimport Vm


# The VM, or snapshot, ends; what only it held is free again.
cpdef object destroy_vm(Engine engine, Vm vm)
