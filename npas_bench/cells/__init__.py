"""Cells, the points of a grid: what they are, how grids are read, and how grids become cells."""
