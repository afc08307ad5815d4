"""Metrics of service: of the VM that fares worst, and of levels: requests, and objectives (`slowdown_at_most`)."""

from memvirt.metrics.metric import Better, Kind, Metric

_DOWN, _NONE = Better.LOWER, Better.NEITHER
_ENDINGS = (("", "VMs"), *((f".{level}", f"{level} VMs") for level in ("gold", "silver", "bronze")))

LEVELS_KEPT = (
    Metric(
        "slowdown_p99_worst_vm",
        "×",
        Kind.RATIO,
        "99th percentile of slowdown of the VM that fares worst, over its seconds",
        _DOWN,
        "most of all VMs of: 99th percentile of a VM's windows",
    ),
    *(
        Metric(
            f"request_{name}_ms{ending}", "ms", Kind.SIM_TIME, f"{text} of {whose}", _DOWN, "since it was due, complete"
        )
        for ending, whose in (
            ("", "all VMs"),
            *((f".{level}", f"{level} VMs") for level in ("gold", "silver", "bronze")),
        )
        for name, text in (
            ("p50", "median time of a request"),
            ("p99", "99th percentile of a request's time"),
            ("worst", "longest request"),
        )
    ),
    *(
        Metric(
            f"objective_broken_percent{ending}",
            "%",
            Kind.RATIO,
            f"seconds in which {whose} with work were slower than their objective",
            _DOWN,
            "VM-windows slower than slowdown_at_most / VM-windows with work; groups with an objective",
        )
        for ending, whose in _ENDINGS
    ),
    *(
        Metric(
            f"waited_ms{ending}",
            "ms",
            Kind.SIM_TIME,
            f"time {whose} waited for memory",
            _DOWN,
            "Σ stall of VMs of groups with an objective",
        )
        for ending, whose in _ENDINGS
    ),
    *(
        Metric(
            f"beyond_shares_percent{ending}",
            "%",
            Kind.RATIO,
            f"of what VMs hold, with {whose} beyond what their shares say",
            _NONE,
            "Σ over windows of pages held beyond what is due / Σ of pages held; due: by shares, no more than its size",
        )
        for ending, whose in _ENDINGS[1:]
    ),
    Metric(
        "jain_index",
        "index",
        Kind.RATIO,
        "Jain's index of what VMs hold for a share",
        _NONE,
        "(Σ x)² / (n · Σ x²), x a VM's pages, mean over windows, / its shares: 1 where all are equal, 1/n at worst",
        "VMs that use little hold little, whatever their shares: only of VMs that contend for memory should it be near 1.",
    ),
    Metric(
        "share_error_percent",
        "%",
        Kind.RATIO,
        "of what VMs hold, with others than those whom their shares give it",
        _NONE,
        "Σ |held - due| / 2 Σ held, over windows; due: by shares, no more than its size",
    ),
)
