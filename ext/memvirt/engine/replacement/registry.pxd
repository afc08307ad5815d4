from .order cimport Order

cpdef Order make_order(str name, ids, capacity, keys=*, dict options=*, seed=*, bint bounded=*)
