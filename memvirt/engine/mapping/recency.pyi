from memvirt.engine.mapping.lazylist import LazyList

class Recency:
    lazies: LazyList
