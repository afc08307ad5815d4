"""What one metric is: its name, unit, kind and meaning, which direction is better, how it is had."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    RATIO = "ratio"
    SIM_TIME = "sim time"
    WALL_TIME = "wall time"


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"  # says what happened, not how well


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the registry."""

    name: str
    unit: str
    kind: Kind
    meaning: str
    better: Better = Better.NEITHER
    derivation: str = "counted"
    reading: str = ""  # how to read it, where that is not plain
