"""Replacement orders alone: misses of one capacity, whole miss-ratio curves, reuse distances, orders written in Python."""

from memvirt.simulation.curve import Curve
from memvirt.simulation.face import ONE_PASS, Simulation, order_names, simulate
from memvirt.simulation.reuse import FIRST, distance_counts, reuse_distances

__all__ = ["FIRST", "ONE_PASS", "Curve", "Simulation", "distance_counts", "order_names", "reuse_distances", "simulate"]
