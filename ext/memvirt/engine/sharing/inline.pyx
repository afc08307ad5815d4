"""Sharing without a scan: a page is looked up when its content arrives, and at no other time.

Arrivals are whole pages: a fill, a read from a guest's disk, the return from the zpool or from swap. (Pages that become
equal by being written word for word are never found.) The cost is one hash and one look-up in the path of each arrival;
the gain is that a duplicate never takes a frame for longer than that. The table remembers a page until it is rebuilt
for want of cells; then unmerged pages are forgotten until they arrive again.
"""

from .scanner cimport Scanner


cdef class InlineScanner(Scanner):

    def __init__(self, index):
        Scanner.__init__(self, index, 0, 0)
        self.index.use_table()
        self.index.share_on_arrival = True
