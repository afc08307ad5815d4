"""What a run leaves: one immutable record a cell, the folder that holds them, and numbers derived from them."""
