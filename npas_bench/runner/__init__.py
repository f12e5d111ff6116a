"""Running grids: cells and their identity, execution, executors, the driver that writes results."""
