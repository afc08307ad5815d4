"""A run as one archive that proves itself: what is in it, how it is packed, and how it is checked."""
