"""Stores with made-up results, for tests of boards and of what is drawn from them."""

import json
import sqlite3
from contextlib import closing

from npas_bench.database.drivers import CodeVersion, enter, leave
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.runs import add_runs, claim_run, finish_run
from npas_bench.leaderboard.paper_list import paper_list
from tests.conftest import REPOSITORY

FULL = 100_000


class Made:
    """A database that results are added to one by one.

    Attributes:
        runs: how many there are.
    """

    def __init__(self, path="runs.db"):
        self.database = open_for_writing(locate(str(path)), paper_list())
        self.driver = enter(self.database, CodeVersion("1", "code"))
        self.runs = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        leave(self.database, self.driver)
        self.database.close()

    def add(self, method="ssn", seed=0, value=1.0, *, percent=10, state="done", metrics=None, **fields):
        """A run that has ended, or is in another state; its number."""
        task, architecture = fields.pop("task", "digits"), fields.pop("architecture", "wrn-10-1")
        options, recipe = fields.pop("options", {}), fields.pop("recipe", {"name": "default", "epochs": 3})
        budget = FULL * percent // 100
        canonical = {"task": task, "architecture": architecture, "method": method, "options": options}
        canonical |= {"budget": budget, "seed": seed, "recipe": {k: v for k, v in recipe.items() if k != "name"}}
        text = json.dumps(canonical, sort_keys=True)
        self.runs += 1
        identity = fields.pop("identity", f"{self.runs:064}")
        cell = {
            **{"identity": identity, "identity_version": 1, "canonical": text, "task": task},
            **{"architecture": architecture, "method": method, "task_version": 1, "method_version": 1},
            **{"options": options, "budget": budget, "budget_text": f"{percent}%", "full": FULL, "recipe": recipe},
            **{"recipe_name": recipe["name"], "seed": seed},
        }
        run = {
            **{"identity": identity, "data_name": task, "data_label": fields.pop("data_label", task)},
            **{"data_digest": fields.pop("data_digest", "d"), "data_official": fields.pop("data_official", True)},
            **{"device_class": fields.pop("device_class", "cpu"), "device": "x86_64", "grid": fields.pop("grid", None)},
        }
        (number,) = add_runs(self.database, [cell], [run])
        if state == "pending":
            return number
        assert claim_run(self.database, number, self.driver, f"token {number}", {})
        if state != "running":
            found = (
                [{"name": "error@1", "value": value, "unit": "%", "higher_is_better": False}]
                if metrics is None
                else metrics
            )
            cost = {"forward_flops": 3e6, "generation_flops": 1e5, "train_seconds": 9.0, "peak_memory": 2**30}
            ended = {
                **{"state": state, "parameters": budget - 1 if state == "done" else None, "seconds_per_step": 0.01},
                **{"peak_memory": 2**30, "cost": cost if state == "done" else None},
                **{
                    "history": [
                        {"epoch": e, "loss": 1 / e, "learning_rate": 0.1, "seconds": 1.0, "seconds_per_step": 0.01}
                        for e in (1, 2)
                    ]
                },
            }
            assert finish_run(
                self.database, number, f"token {number}", ended | fields, found if state == "done" else []
            )
        return number


def published_version(run):
    """The version of the task that a run of the published board was made with."""
    query = "SELECT task_version FROM cells JOIN runs USING (identity) WHERE runs.id = ?"
    with closing(sqlite3.connect(f"file:{REPOSITORY / 'leaderboard.db'}?immutable=1", uri=True)) as connection:
        return connection.execute(query, [run]).fetchone()[0]
