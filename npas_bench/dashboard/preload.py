"""Imports what pages need, so that nobody waits for it at the first page."""

import pandas
import plotly.graph_objects

from npas_bench.dashboard import charts, filters, formats, frames, guard, looking, run_charts, terminal
from npas_bench.dashboard.views import board, compare, cost, frontier, grids, papers, run

PAGES = (board, compare, cost, frontier, grids, papers, run)
PARTS = (charts, filters, formats, frames, guard, looking, run_charts, terminal)
LIBRARIES = (pandas, plotly.graph_objects)
