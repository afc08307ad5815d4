from .elastic cimport Elastic
from .guest cimport Guest


# The way in which this guest gives memory.
cdef Elastic way_of(Guest guest)
