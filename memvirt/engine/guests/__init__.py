"""The guest's own memory manager, its balloon, and the hardware it sees."""
