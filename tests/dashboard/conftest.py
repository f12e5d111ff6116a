"""A database of a user's own with everything in it that a page can meet."""

import math

import pytest

from tests.boards import Made

MARKUP = "<img src=x onerror=alert(1)> **bold** :red[x] $a$ [link](http://example.invalid)"


def fill(path):
    """Two tasks, several methods, seeds, budgets; failures, gaps, reproductions, hostile names, a grid under way."""
    with Made(path) as made:
        for percent, offset in ((2, 4.0), (10, 2.0), (50, 1.0)):
            for seed in range(3):
                noise = math.sin(7 * percent + 3 * seed) / 5
                made.add("reduced", seed, 3 + offset + noise, percent=percent, grid="first")
                made.add("hashednets", seed, 2 + offset - noise, percent=percent, grid="first")
                if percent > 2:
                    made.add("ssn", seed, 1 + offset + noise / 2, percent=percent, grid="first")
        for seed in range(3):
            made.add("full", seed, 1.5 + seed / 10, percent=100)
            made.add(
                "ssn", seed, state="unsupported", percent=2, message="the smallest possible is 5,000", grid="first"
            )
        made.add("ssn", 0, 2.5, percent=10, options={"mapping": "auto", "groups": 2})
        made.add(
            "ssn", 1, state="failed", percent=10, options={"mapping": "auto", "groups": 2}, message="out of memory"
        )
        again = {"identity": "e" * 64, "percent": 10}
        made.add("superweights", 0, 3.0, **again)
        made.add("superweights", 0, 3.0, device_class="cuda", **again)
        made.add("superweights", 1, 3.2, percent=10)
        made.add(
            MARKUP,
            0,
            5.0,
            percent=10,
            options={"<b>key</b>": "=1+1|x"},
            data_official=False,
            data_digest="e",
            data_label=MARKUP,
        )
        for seed in range(3):
            paper = {"task": "cifar100", "architecture": "wrn-28-10", "percent": 10}
            both = lambda e: [  # noqa: E731
                {"name": "error@1", "value": e, "unit": "%", "higher_is_better": False},
                {"name": "nll", "value": e / 20, "unit": "", "higher_is_better": False},
            ]
            made.add("reduced", seed, metrics=both(24.4 + seed / 10), **paper)
            made.add("superweights", seed, metrics=both(22.3 + seed / 10), **paper)
        made.add("ssn", 5, percent=10, state="running", grid="under way")
        made.add("ssn", 6, percent=10, state="pending", grid="under way")
    return path


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("board") / "mine.db")


@pytest.fixture
def mine(filled, monkeypatch):
    """That database as the user's own; for reading."""
    monkeypatch.setenv("NPAS_BENCH_DB", str(filled))
    return filled


@pytest.fixture
def show():
    """A page of the dashboard, drawn without a browser."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear()

    def draw(page, **parameters):
        name = {"board": "board"}.get(page, f"{page}_page")
        script = f"from npas_bench.dashboard.pages.{page} import {name}\n{name}()\n"
        test = AppTest.from_string(script, default_timeout=60)
        for key, value in parameters.items():
            test.query_params[key] = value
        return test.run()

    return draw
