from memvirt.engine.replacement.order import Order

class MgLru(Order):
    min_seq: int
    max_seq: int
    nr_refaults: int
    nr_recent: int
