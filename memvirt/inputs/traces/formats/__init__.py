"""Trace formats, one a file: a class with its parameters as fields, and a line in memvirt.names.TRACE_FORMATS."""
