"""hpc-yolo: YOLO training that goes on exactly where it was interrupted."""

__version__ = "0.1.0"
