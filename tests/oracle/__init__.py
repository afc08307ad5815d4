"""The host, the orders and zsmalloc again, in plain Python: slow, obvious, and held against the engine."""
