"""Imports everything that the pages need, so that the first visitor does not wait for it."""

import pandas
import plotly.graph_objects

from npas_bench.dashboard import filters, frames, guard, looking
from npas_bench.dashboard.charts import boards, runs
from npas_bench.dashboard.pages import board, compare, cost, frontier, grids, papers, run
from npas_bench.leaderboard import files

PAGES = (board, compare, cost, frontier, grids, papers, run)
PARTS = (boards, files, filters, frames, guard, looking, runs)
LIBRARIES = (pandas, plotly.graph_objects)
