"""For tests only: what the engine calls on an agenda."""

from ..agenda cimport Agenda
from ..types cimport int64_t, uint32_t


def put(Agenda agenda not None, uint32_t who, int64_t at_ns):
    agenda.put(who, at_ns)


def first(Agenda agenda not None):
    """(who comes next, when), or None."""
    cdef int64_t at_ns = 0
    cdef uint32_t who
    if agenda.nr == 0:
        return None
    who = agenda.first(&at_ns)
    return who, at_ns


def at(Agenda agenda not None, uint32_t who):
    return agenda.at(who)
