"""Cells, which are the points of a grid: their identity, reading grids, and expanding grids into cells."""
