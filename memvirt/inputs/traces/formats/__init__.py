"""Trace formats, one a file. Each module here is imported when formats are asked for, and registers its own."""
