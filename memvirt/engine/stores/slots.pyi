class Slots:
    nr_slots: int
    nr_used: int
    cluster_slots: int
    nr_clusters: int
    def check(self) -> None: ...
