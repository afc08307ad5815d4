"""Event counts and latency histograms.

Two kinds of time live here and never meet: `sim`, the modelled nanoseconds of every single fault, and `wall`, what this
machine's clock said of one fault in WALL_EVERY of a kind (a time stamp costs as much as a fast fault, so timing all of
them would measure the timing).

Histograms are log-linear in the manner of HdrHistogram: values below 64 are exact, above that each power of two is cut
into 64 buckets, so a percentile is right to within 1.6 %. They are complete: no value is dropped, none is averaged.
"""

from libc.stdlib cimport calloc, free

from .types cimport uint32_t

from memvirt.errors import InvariantError
from memvirt.names import FAULTS, MECHANISMS

if (len(FAULTS), len(MECHANISMS)) != (NR_FAULTS, NR_MECHANISMS):
    raise InvariantError("counters.pxd and memvirt.names count different faults or mechanisms")


def bucket_value(uint32_t index):
    """Lower bound, in ns, of the histogram bucket `index`; exact for values below 64."""
    if index < 64:
        return index
    power = index // 64 - 1
    return (64 + index % 64) << power


cdef dict histogram_dict(Histogram *histogram):
    """{"count", "sum_ns", "max_ns", "buckets": [[lower bound in ns, count], ...]}; empty buckets are left out."""
    buckets = []
    cdef uint32_t i
    for i in range(HIST_BUCKETS):
        if histogram.bucket[i]:
            buckets.append([bucket_value(i), histogram.bucket[i]])
    return {"count": histogram.total, "sum_ns": histogram.sum, "max_ns": histogram.max, "buckets": buckets}


cdef class Meter:
    """Everything a host counts; see Events in counters.pxd for the fields."""

    def __cinit__(self):
        self.sim = <Histogram *>calloc(NR_FAULTS, sizeof(Histogram))
        self.wall = <Histogram *>calloc(NR_FAULTS, sizeof(Histogram))
        if self.sim == NULL or self.wall == NULL:
            raise MemoryError("histograms")

    def __dealloc__(self):
        free(self.sim)
        free(self.wall)

    def events(self):
        """{name: count} of every event, zeros included."""
        return self.ev

    def cpu(self):
        """{mechanism: simulated ns}"""
        return {name: self.cpu_ns[i] for i, name in enumerate(MECHANISMS)}

    def histograms(self):
        """{fault kind: complete histogram of simulated ns}; kinds that never happened are left out."""
        return {name: histogram_dict(&self.sim[i]) for i, name in enumerate(FAULTS) if self.sim[i].total}

    def wall_samples(self):
        """{fault kind: histogram of sampled wall ns, with "every": one fault in that many was timed}"""
        return {name: histogram_dict(&self.wall[i]) | {"every": WALL_EVERY}
                for i, name in enumerate(FAULTS) if self.wall[i].total}
