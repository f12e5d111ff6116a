"""The forecast that is learned from the runs of a database and of the published board."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from npas_bench.database.opening import Database
    from npas_bench.forecast.forecast import Forecast

log = logging.getLogger(__name__)


def learned_forecast(database: Database | None, device: str) -> Forecast:
    """A forecast learned from the runs of `database`, if there is one, and of the published board."""
    from npas_bench.forecast.forecast import Forecast
    from npas_bench.leaderboard.published import open_published

    try:
        published = open_published()
    except DatabaseError as error:
        log.debug("nothing is learned from the published board: %s", error)
        published = None
    try:
        return Forecast.learn([one for one in (database, published) if one is not None], device)
    finally:
        if published is not None:
            published.close()
