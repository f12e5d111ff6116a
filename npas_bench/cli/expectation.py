"""What commands expect cells to take: from the runs of a database and of the published board."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from npas_bench.errors import StoreError

if TYPE_CHECKING:
    from npas_bench.runner.forecast import Forecast
    from npas_bench.store.database import Store

log = logging.getLogger(__name__)


def learned_forecast(store: Store | None, device: str) -> Forecast:
    """A forecast learned from the runs of `store`, if there is one, and of the board that comes along."""
    from npas_bench.leaderboard.published import open_published
    from npas_bench.runner.forecast import Forecast

    try:
        published = open_published()
    except StoreError as error:
        log.debug("nothing is learned from the published board: %s", error)
        published = None
    try:
        return Forecast.learn([one for one in (store, published) if one is not None], device)
    finally:
        if published is not None:
            published.close()
