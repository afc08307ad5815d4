"""Page-sharing scanners, one module each."""
