class Faults:
    nr_zero_reads: int
