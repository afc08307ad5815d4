"""The page of a report: one file that needs nothing but a browser."""
