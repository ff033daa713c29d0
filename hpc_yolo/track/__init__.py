"""Owns sending a run's metrics to TensorBoard, MLflow and W&B: one experiment over all attempts, each epoch once."""
