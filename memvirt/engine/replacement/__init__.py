"""Replacement orders, one module each."""
