"""Imports what pages need, so that nobody waits for it at the first page."""

import logging

import pandas
import plotly.graph_objects

# That there is no server yet, which caches shared between sessions would belong to, is as it should be.
logging.getLogger("streamlit.runtime.caching.cache_data_api").setLevel(logging.ERROR)

from npas_bench.dashboard import charts, filters, formats, frames, guard, looking, run_charts, terminal  # noqa: E402
from npas_bench.dashboard.views import board, compare, cost, frontier, grids, papers, run  # noqa: E402

PAGES = (board, compare, cost, frontier, grids, papers, run)
PARTS = (charts, filters, formats, frames, guard, looking, run_charts, terminal)
LIBRARIES = (pandas, plotly.graph_objects)
