"""What is well and what to change before a night is trusted to a cluster: `hpc-yolo doctor`."""
