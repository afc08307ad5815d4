"""Figures as Vega-Lite specifications: plain dicts, one function each, with their data inside; and how they are drawn."""
