from memvirt.engine.replacement.order import Order

class TwoList(Order):
    nr_active: int
    age: int
    nr_refaults: int
    nr_activated: int
    nr_deactivated: int
    nr_restored: int
