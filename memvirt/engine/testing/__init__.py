"""Faces for tests only."""
