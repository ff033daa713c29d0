"""Events -> dataclasses -> what a person reads. Never imports torch, hydra or ultralytics."""
