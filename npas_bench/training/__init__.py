"""Training: epochs, stages, optimisers, schedules, stop rules and checkpoints."""
