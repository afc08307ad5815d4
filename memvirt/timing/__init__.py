"""Wall time: cells repeated under pyperf, in processes of their own."""
