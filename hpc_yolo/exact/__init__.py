"""Exact training: the only place that imports ultralytics."""
