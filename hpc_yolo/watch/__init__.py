"""The full-screen view of many runs: `hpc-yolo watch`."""
