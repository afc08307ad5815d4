"""Traces of other programs' making: read in many formats, kept in one.

`import_trace` converts a file; `open_trace` gives what is ready to be replayed, in memvirt's own files and in .npy;
`content_sha256` names what a trace says;
`export_trace` writes it for other programs. Formats are known by name in `registry`.
"""

from .exporter import export_trace
from .importer import Wanted, import_trace
from .registry import lookup, names
from .trace import Chunk, Trace, TraceInfo, content_sha256, open_trace

__all__ = [
    "Chunk",
    "Trace",
    "TraceInfo",
    "Wanted",
    "content_sha256",
    "export_trace",
    "import_trace",
    "lookup",
    "names",
    "open_trace",
]
