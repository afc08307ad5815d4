"""Physical memory: the buddy allocator and its indices, frames."""
