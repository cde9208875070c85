"""Parameters to updates: groups, optimizers, schedules, clipping."""
