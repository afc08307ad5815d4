"""The same workload on something else than the engine, and both side by side."""
