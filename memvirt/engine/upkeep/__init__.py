"""Workers that keep memory in shape: compaction and collapse."""
