from memvirt.engine.replacement.order import Order

class Arc(Order):
    target: float
