"""From guest pages to frames and back: entries, references, reverse map, translation cache."""
