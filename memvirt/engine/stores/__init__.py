"""Where pages go when their frames are taken: compressed, or swapped."""
