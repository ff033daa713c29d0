"""State <-> file: format, store, writer and schedule. Knows tensors and plain values, no YOLO."""
