"""What stands between a scheduler and a worker: starts it, relays warnings, decides what comes next. No torch."""
