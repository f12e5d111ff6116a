"""Two methods head to head, over all budgets, architectures and tasks at which both have results.

For a given seed, all methods see the same data in the same order, so results are paired by seed. Every shared budget
is one comparison, made by a paired t-test. Holm's procedure over all comparisons keeps the familywise error rate at
5 %. Budgets at which one of the two methods has no result take no part; they are counted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.leaderboard.statistics import Difference, paired_difference, rejected_by_holm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npas_bench.leaderboard.standings import Band, BoardTable, Standing


class Encounter(NamedTuple):
    """One budget of a table at which both methods have results.

    Attributes:
        table: the table.
        budget: how many trainable scalars are allowed.
        text: the budget as it was asked for.
        first: the standing of the first method.
        second: the standing of the second method.
        difference: first minus second, over the seeds that both have; None if they share no seed.
        winner: the label of the method that is significantly better; None if neither is.
    """

    table: BoardTable
    budget: int
    text: str
    first: Standing
    second: Standing
    difference: Difference | None
    winner: str | None


class Overall(NamedTuple):
    """All encounters of a table together.

    Attributes:
        table: the table.
        budgets: how many budgets the methods share.
        difference: the difference of the means over all shared budgets, paired by seed; None if no seed is done at
            all of them.
    """

    table: BoardTable
    budgets: int
    difference: Difference | None


class HeadToHead(NamedTuple):
    """Two methods compared at all budgets that they share.

    Attributes:
        first: the label of one method.
        second: the label of the other.
        encounters: the shared budgets, in the order of tables and budgets.
        overall: each table's encounters together.
        missing: at how many budgets at least one of the two has a row, but not both have a result.
        unseen: how many tables with older results were not looked at.
    """

    first: str
    second: str
    encounters: list[Encounter]
    overall: list[Overall]
    missing: int
    unseen: int = 0

    @property
    def wins(self) -> tuple[int, int]:
        """How often the first and the second are significantly better."""
        winners = [encounter.winner for encounter in self.encounters]
        return winners.count(self.first), winners.count(self.second)

    @property
    def left_out(self) -> str:
        """A sentence on what takes no part in the comparison; empty if everything does."""
        said = []
        if self.missing:
            those = f"{self.missing:,} more budgets take" if self.missing > 1 else "One more budget takes"
            where = "at least one of the methods has no result there"
            said.append(f"{those} no part: {where}.")
        if self.unseen:
            said.append(f"{self.unseen:,} tables with older results were not looked at.")
        devices = {encounter.table.device_class for encounter in self.encounters}
        if len(devices) > 1:
            said.append(f"Results on {' and '.join(sorted(devices))} count separately.")
        return " ".join(said)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence or two."""
        count = len(self.encounters)
        if not count:
            return f"{self.first} and {self.second} have no budget in common at which both have a result."
        first, second = self.wins
        level = count - first - second
        said = [f"Over {_times(count, 'shared comparison')}, "]
        if not first and not second:
            said.append(f"{self.first} and {self.second} cannot be told apart in any.")
        else:
            said.append(
                f"{self.first} is significantly better in {first or 'none'}, {self.second} in {second or 'none'}"
            )
            said.append(f", and {level} cannot be told apart." if level else ".")
        untested = sum(e.difference is None or e.difference.p is None for e in self.encounters)
        if untested:
            said.append(f" {_times(untested, 'of them')} could not be tested: it takes two seeds that both have.")
        return "".join(said)


def head_to_head(tables: Iterable[BoardTable], first: str, second: str, *, unseen: int = 0) -> HeadToHead:
    """Compare two methods.

    Args:
        tables: the tables to compare them in.
        first: the label of a method, with its options.
        second: the label of another.
        unseen: how many tables were left out.
    """
    encounters: list[Encounter] = []
    missing = 0
    for table in tables:
        for band in table.bands:
            one, other = (_find(band, label) for label in (first, second))
            if one is None and other is None:
                continue
            if one is None or other is None or one.mean is None or other.mean is None:
                missing += 1
                continue
            difference = paired_difference(one.values, other.values)
            encounters.append(Encounter(table, band.budget, band.text, one, other, difference, None))
    return HeadToHead(first, second, _decided(encounters, first, second), _overall(encounters), missing, unseen)


def _find(band: Band, label: str) -> Standing | None:
    return next((standing for standing in band.standings if standing.label == label), None)


def _decided(encounters: list[Encounter], first: str, second: str) -> list[Encounter]:
    tested = [
        (place, one.difference.mean, one.difference.p)
        for place, one in enumerate(encounters)
        if one.difference is not None and one.difference.p is not None
    ]
    decided = list(encounters)
    for (place, mean, _), certain in zip(tested, rejected_by_holm([p for *_, p in tested]), strict=True):
        if certain:
            better = (mean > 0) == encounters[place].table.higher_is_better
            decided[place] = encounters[place]._replace(winner=first if better else second)
    return decided


def _overall(encounters: list[Encounter]) -> list[Overall]:
    tables: dict[str, list[Encounter]] = {}
    for encounter in encounters:
        tables.setdefault(encounter.table.key, []).append(encounter)
    return [
        Overall(
            some[0].table, len(some), paired_difference(_mean(e.first for e in some), _mean(e.second for e in some))
        )
        for some in tables.values()
    ]


def _mean(standings: Iterable[Standing]) -> dict[int, float]:
    """The mean over all budgets, for each seed that is done at all of them."""
    values = [standing.values for standing in standings]
    seeds = set.intersection(*map(set, values))
    return {seed: math.fsum(value[seed] for value in values) / len(values) for seed in seeds}


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 and not what.startswith('of') else ''}"
