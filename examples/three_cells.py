"""Three small cells and the frontier that they make: one method at three budgets, from a script.

    python examples/three_cells.py                          # about half a minute on two cores
    python examples/three_cells.py --epochs 2 --out quick.html

The results are kept in `three-cells.db`. Run again, the script trains nothing and draws the same figure; in a notebook,
`figure.show()` shows it in place.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.express as px

import npas_bench

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def frontier_figure(results: pd.DataFrame) -> Figure:
    """The error against the share of parameters, one line for each method."""
    done = results[results.state == "done"]
    means = done.groupby(["label", "share"], as_index=False).value.mean()
    figure = px.line(means, x="share", y="value", color="label", markers=True, log_x=True)
    figure.update_xaxes(title="trained parameters, as a share of the full network", tickformat=".0%")
    figure.update_yaxes(title=f"{done.metric.iloc[0]} in {done.unit.iloc[0]}")
    return figure


def main() -> None:
    """Run the cells and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, help="epochs of training [default: 40]")
    parser.add_argument("--db", default="three-cells.db", help="results database [default: three-cells.db]")
    parser.add_argument("--out", type=Path, default=Path("frontier.html"), help="figure [default: frontier.html]")
    arguments = parser.parse_args()
    results = npas_bench.run_cells(
        tasks="digits",
        methods="ssn",
        budgets=["5%", "10%", "25%"],
        seeds=1,
        recipe={"epochs": arguments.epochs},
        db=arguments.db,
    )
    frontier_figure(results).write_html(arguments.out)
    columns = ["label", "budget_text", "parameters", "value"]
    logging.info("%s\nThe frontier is in %s.", results[columns].to_string(index=False), arguments.out)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
