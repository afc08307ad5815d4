"""Page sharing: the index of stable contents, and the scanners, one module each."""
