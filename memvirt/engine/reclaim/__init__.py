"""Taking frames back, and the faults that bring pages in again."""
