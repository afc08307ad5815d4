"""Rows of bench/ratios.py, one file per group."""
