"""From results to a board: statistics, standings, the published results. Nothing here draws."""
