"""The papers' numbers: that they are what the papers print, and which results they are set against."""

import os
import re
from pathlib import Path

import pytest

from npas_bench import plugins
from npas_bench.cells.grid import read_grid
from npas_bench.database.opening import locate, open_for_reading, open_for_writing
from npas_bench.database.queries.papers import read_papers
from npas_bench.leaderboard.paper_list import paper_list
from npas_bench.leaderboard.papers import choose_rows, in_metric, metrics_of, points_beside, set_beside
from npas_bench.leaderboard.standings import tabulate
from tests.conftest import REPOSITORY
from tests.leaderboard.test_standings import result

NPAS, SWN, SSN, SLIDES = "plummer2022npas", "teterwak2023superweights", "plummer2021ssn", "npas2022slides"
# Read in the papers' texts by eye: where, the row of the table as it stands there, which of its numbers, counted from 0
# (a budget in the row counts, a spread does not), and of what. `value±spread` where a spread is printed.
SAMPLES = [
    (NPAS, "Table 1", "F30K EmbNet 56.5 70.2 74.1", 0, "flickr30k embnet reduced 6.9", "56.5"),
    (NPAS, "Table 1", "SSN-EmbNet 76.7 78.2 82.1", 1, "coco embnet ssn 13.9", "78.2"),
    (NPAS, "Table 1", "SSN-ADAPT-T2I 85.3 86.2 87.0", 2, "coco adapt-t2i ssn 100", "87.0"),
    (NPAS, "Table 1", "SSN-SimNet 71.9 72.1 72.4", 0, "flickr30k-entities simnet ssn 7.8", "71.9"),
    (NPAS, "Table 1", "ReferIt SimNet 58.5 59.2 61.1", 2, "referit simnet full 100", "61.1"),
    (NPAS, "Table 2", "ALBERT 89.2/82.1 79.8/76.9", 1, "squad-v1.1 albert-base albert em", "82.1"),
    (NPAS, "Table 2", "LB-SSN 91.1/84.4 83.0/80.1", 2, "squad-v2.0 albert-large ssn f1", "83.0"),
    (NPAS, "Table 3", "WRN-40-4 20.50 WRN-16-2 27.30 24.43 24.03", 3, "cifar100 wrn-16-2 srr", "24.03"),
    (NPAS, "Table 3", "HB-SSN 30.88 30.41 29.63", 0, "cifar100 resnet-10 ssn", "30.88"),
    (NPAS, "Table 4", "LB-SSN 9.26 – 100.6 12.2", 0, "cifar10 resnet-56 ssn error@1 LB", "9.26"),
    (NPAS, "Table 4", "HRank 10.75 9.94 20.3 28.4", 2, "cifar10 resnet-56 hrank flops-percent 28.4", "20.3"),
    (NPAS, "Table 5", "C-10 11.3% 4.22 4.00 3.84", 3, "cifar10 wrn-28-10 ssn emb", "3.84"),
    (NPAS, "Table 5", "C-100 22.34 21.78 21.92", 0, "cifar100 wrn-28-10 reduced", "22.34"),
    (NPAS, "Table 6", "ImageNet 2.2% 15.20 14.83 14.19", 2, "imagenet wrn-50-2 ssn inter", "14.83"),
    (NPAS, "Table 7", "C-100 19.44 19.99 20.36 19.29 19.24", 2, "cifar100 ssn mapping=random", "20.36"),
    (NPAS, "Table 8", "EmbNet 7 57.1% F30K 72.8 74.1 73.5 74.0 74.3", 3, "flickr30k embnet ssn rr", "74.1"),
    (NPAS, "Table 8", "COCO 85.2 85.6 85.8 86.2 85.9", 2, "coco adapt-t2i ssn avg", "85.8"),
    (NPAS, "Table 8", "ImageNet E@1 28.68 23.32 25.11 24.15 23.25", 4, "imagenet ssn error@1 emb", "23.25"),
    (NPAS, "Table 9", "C-100 19.44 19.99 20.36 19.29 19.47 19.24", 4, "cifar100 ssn mapping=auto; wavg", "19.47"),
    (NPAS, "Table 9", "WRN-50-2 32 ImageNet E@5 5.84 6.18 5.91 5.82 5.86 5.96", 1, "imagenet full error@5", "5.84"),
    (NPAS, "Table 9", "SimNet 3 F30K Entities 71.7 71.4 71.8 72.4 72.2 72.1", 4, "entities ssn mapping=manual", "72.4"),
    (NPAS, "Table 10", "WRN-28-10 36 1.4% C-10 6.35 5.43 6.05 5.18 5.07", 3, "cifar10 ssn repeat", "5.43"),
    (NPAS, "Table 10", "C-100 28.35 27.08 26.84 25.71 25.20", 4, "cifar100 ssn 2 groups + mask", "25.20"),
    (NPAS, "Table 11", "Hyper Wide ResNet 8.02 0.097", 0, "cifar10 wrn-40-1 hypernetwork", "8.02"),
    (NPAS, "Table 11", "Wide ResNet 40-2 5.66 2.236", 0, "cifar10 wrn-40-2 full", "5.66"),
    (
        NPAS,
        "Table 12",
        "4M Params 21.92 ± 0.30 21.47 ± 0.23 21.31 ± 0.13 22.01 ± 0.26 22.43 ± 0.37 23.88 ± 0.40 24.99 ± 0.39",
        6,
        "cifar100 ssn P=14 4.0",
        "23.88±0.40",
    ),
    (
        NPAS,
        "Table 13",
        "WRN-28-10 C-100 19.66 ± 0.23 19.59 ± 0.21 19.48 ± 0.24 19.24 ± 0.29 19.32 ± 0.27",
        4,
        "cifar100 ssn K=10",
        "19.32±0.27",
    ),
    (NPAS, "Table 14", "SSN-WRN-40-10 56 7 13.4 20.4 20.17 ± 0.32", 4, "wrn-40-10 ssn (c)", "20.17±0.32"),
    (NPAS, "Table 14", "WRN-76-12 164 164 100.0 449.6 18.31 ± 0.22", 4, "wrn-76-12 full", "18.31±0.22"),
    (NPAS, "Table 15", "SWRN-28-10 (Savarese & Maire, 2019) 20.48 20.04 – – –", 0, "swrn 32.8", "20.48"),
    (NPAS, "Table 15", "SSN-DenseNet-BC-190-40 22.97 21.03 19.65 – –", 1, "densenet-bc-190-40 ssn 3.8", "21.03"),
    (NPAS, "Table 16", "WRN 11.60 (31.81) 10.02 (29.22) 9.08 (27.58) 8.44 (26.30)", 5, "error@1 reduced 15.2", "27.58"),
    (NPAS, "Table 16", "SSN-EfficientNet-B0 10.21 (32.42) 6.82 (26.52) 6.44 (25.18) –", 2, "ssn error@5 14.8", "6.82"),
    (SWN, "Table 1", "(a) Baseline [39] 93.54±0.19 95.73±0.17 71.49±0.29", 2, "cifar100 reduced 1.0", "71.49±0.29"),
    (
        SWN,
        "Table 1",
        "SWN (Ours) 94.87±0.14 95.99±0.11 75.77±0.34 78.94±0.26 68.42±0.21 71.14±0.18",
        4,
        "imagenet superweights 5.0",
        "68.42±0.21",
    ),
    (SWN, "Table 2", "MIMO [12] 36.5M 82.0 0.690 2.2 53.7 2.28 12.9 96.4 0.123 1.0", 2, "cifar100 mimo nll", "0.690"),
    (SWN, "Table 2", "SWN-HO (Ours) 120M 82.9 0.666 2.2 54.7 2.00 10.3", 6, "cifar100-c superweights ece", "10.3"),
    (
        SWN,
        "Table 3",
        "Depth-binning 76.8 ± 0.15 77.7 ± 0.17 79.2 ± 0.19 81.4 ± 0.15",
        1,
        "wrn-28-4 superweights depth",
        "77.7±0.17",
    ),
    (SSN, "Table 3", "0.70 M 27.32 26.56 26.71 25.91 26.02 24.08 26.53 23.30", 6, "wrn-16-2 od wrn-28-4", "24.08"),
    (SLIDES, "slide QA", "BERT 334M 92.2 / 85.5 85.0 / 82.2", 2, "squad-v1.1 bert-large full em", "85.5"),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The numbers of a new database."""
    path = str(tmp_path_factory.mktemp("papers") / "new.db")
    open_for_writing(locate(path), paper_list()).close()
    database = open_for_reading(locate(path))
    found = read_papers(database)
    database.close()
    return found


def test_all_numbers_come_into_every_new_database(rows):
    assert len(rows) == 579
    assert [sum(row.source == source for row in rows) for source in (NPAS, SWN, SSN, SLIDES)] == [406, 140, 25, 8]
    assert all(in_metric(row, row.metric) == float(row.value) for row in rows)


def test_forty_are_sampled():
    assert len({(source, table, line, place) for source, table, line, place, *_ in SAMPLES}) == 40


def words(row):
    fields = (row.dataset, row.architecture, row.method, row.metric, row.budget_percent, row.params_millions)
    return {str(field) for field in fields} | {f"{row.budget_percent:g}" if row.budget_percent else ""}


def is_meant(row, wanted):
    """Whether a number is of all that is wanted: whole fields, or parts of its variant or data."""
    text = f"{row.variant} {row.dataset}"
    rest = wanted
    for part in (row.variant,):
        if part and part in rest:
            rest = rest.replace(part, " ")
    return all(word in words(row) or word in text for word in rest.split()) and (row.method in wanted.split())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample[0]}-{sample[1]}-{sample[4]}")
def test_a_number_is_what_its_paper_prints(rows, sample):
    source, table, line, place, wanted, printed = sample
    value, _, spread = printed.partition("±")
    meant = [row for row in rows if (row.source, row.table) == (source, table) and is_meant(row, wanted)]
    assert (value, spread or None) in {(row.value, row.spread) for row in meant}, meant
    assert numbers_of(line)[place] == printed
    folder = Path(os.environ.get("NPAS_BENCH_PAPERS", REPOSITORY.parent / "shared" / "papers"))
    if (folder / f"{source}.txt").is_file():
        text = " ".join((folder / f"{source}.txt").read_text(encoding="utf-8").split())
        assert " ".join(line.split()) in text


def numbers_of(line):
    """The numbers of a table's row, each with its spread."""
    line = re.sub(r"\[\d+\]|\(.*?(et al|&).*?\)", " ", line)
    line = re.sub(r"\s*±\s*", "±", line)
    return re.findall(r"(?<![\w.@-])\d+(?:\.\d+)?(?:±\d+\.\d+)?(?=%|M\b|[\s)/]|$)", line)


def test_every_number_that_is_set_against_a_method_names_one_with_options_that_it_has(rows):
    known = plugins.methods
    for row in rows:
        if row.method_here is not None:
            options = known.load(row.method_here).Options.model_validate(row.options_here)
            assert options.model_dump(exclude_defaults=True) == row.options_here, row


def test_grids_stand_beside_numbers_that_their_cells_are_set_against(rows):
    from npas_bench.cells.grid import Expander

    for name in ("downsampling-table5", "upsampling-table6", "mapping-table7", "groups-table12", "templates-table13"):
        grid = read_grid(name)
        cells = {
            (cell.task, cell.architecture, cell.method, str(sorted(cell.options.items())))
            for cell in Expander().cells(grid)
        }
        some = [row for row in choose_rows(rows, grid.beside[:1]) if row.dataset in grid.blocks[0].tasks]
        assert some
        for row in some:
            key = (row.dataset, row.architecture, row.method_here, str(sorted(row.options_here.items())))
            assert key in cells, row


FULL = 36_500_000


def wide(method, seed, value, percent, **fields):
    own = {
        "task": "cifar100",
        "architecture": "wrn-28-10",
        "full": FULL,
        "budget": round(percent * 1000) * FULL // 100_000,
    }
    return result(method, seed, value, **own | fields)


def lines_of(rows, results, place):
    some = choose_rows(rows, [place])
    tables = {metric: [t for t in tabulate(results) if t.metric == metric] for metric in metrics_of(some)}
    return set_beside(some, {"mine": tables})


def test_a_result_is_set_against_its_number_with_difference_and_spread(rows):
    measured = [wide("superweights", seed, 24.0 + seed / 10, 1) for seed in range(3)]
    line = next(line for line in lines_of(rows, measured, f"{SWN} Table 1") if line.standing)
    # Printed as accuracy, measured as error.
    assert (line.row.metric, line.value, line.spread, line.mean) == ("accuracy@1", 75.77, 0.34, pytest.approx(75.9))
    assert (line.difference, line.within, line.source) == (pytest.approx(0.13), True, "mine")
    assert line.half_width == pytest.approx(0.2484, abs=1e-4)


def test_without_a_printed_spread_nothing_is_within_it(rows):
    (line,) = (one for one in lines_of(rows, [wide("ssn", 0, 25.0, 1.4)], f"{NPAS} Table 10") if one.standing)
    assert (line.row.variant, line.difference, line.within) == ("mask", pytest.approx(25.0 - 25.71), None)


def test_what_was_not_run_failed_or_is_unsupported_is_told_apart(rows):
    results = [wide("ssn", 0, 1.0, 1.4, state="unsupported"), wide("reduced", 0, 1.0, 1.4)]
    found = [line for line in lines_of(rows, results, f"{NPAS} Table 10") if line.standing]
    assert [(line.row.method, line.standing.unsupported, line.mean) for line in found] == [
        ("reduced", 0, 1.0),
        ("ssn", 1, None),
    ]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"architecture": "wrn-28-4"}, f"{NPAS} Table 10"),
        ({"task": "cifar10x"}, f"{NPAS} Table 10"),
        ({"budget": 511_001}, f"{NPAS} Table 10"),
        ({"options": {"upsample": "inter", "mask_window": 3}}, f"{NPAS} Table 10"),
        ({"metric": "nll"}, f"{NPAS} Table 10"),
        # Another protocol: distillation, ensembles.
        ({"architecture": "wrn-16-2", "budget": 36_500_000}, f"{NPAS} Table 3"),
    ],
)
def test_another_network_budget_option_metric_or_protocol_is_not_set_against_it(rows, fields, place):
    assert not any(line.standing for line in lines_of(rows, [wide("ssn", 0, 25.0, 1.4, **fields)], place))


def test_budgets_in_millions_are_met_to_the_last_printed_digit(rows):
    small = [wide("ssn", 0, 21.0, 1, budget=4_000_000, options={"combine": "emb"})]
    line = next(line for line in lines_of(rows, small, f"{NPAS} Table 12") if line.standing)
    assert (line.row.variant, line.row.params_millions, line.row.value) == ("emb; P=1", 4.0, "21.92")
    hyper = {"task": "cifar10", "architecture": "wrn-40-1", "full": 563_000, "budget": 97_770}
    line = next(line for line in lines_of(rows, [result("hypernetwork", **hyper)], f"{NPAS} Table 11") if line.standing)
    assert (line.row.params_millions, line.row.value) == (0.097, "8.02")


def test_protocols_of_the_papers_stand_apart_beside_one_result(rows):
    (table,) = tabulate([wide("full", 0, 19.0, 100)])
    points = points_beside(table, rows)
    full = {(p.row.source, p.row.table): p.value for p in points if p.row.method == "full" and p.row.variant == ""}
    assert full[NPAS, "Table 14"] == 19.44
    assert full[SWN, "Table 2"] == pytest.approx(20.2)


def test_an_unknown_table_is_named_with_the_nearest(rows):
    from npas_bench.errors import UnknownName

    with pytest.raises(UnknownName, match="did you mean plummer2022npas Table 5"):
        choose_rows(rows, ["plummer2022npas Tabel 5"])


def test_a_result_is_told_once_whichever_metrics_its_runs_tell(rows):
    error = [wide("superweights", seed, 24.0, 1) for seed in range(3)]
    some = choose_rows(rows, [f"{SWN} Table 1"])
    tables = {"error@1": tabulate(error), "accuracy@1": tabulate([r._replace(metric=None, value=None) for r in error])}
    found = [line for line in set_beside(some, {"mine": tables}) if line.standing]
    assert [line.mean for line in found] == [76.0]
    none = tabulate([wide("superweights", 0, 0, 1, state="unsupported")])
    (line,) = (line for line in set_beside(some, {"mine": dict.fromkeys(tables, none)}) if line.standing)
    assert (line.mean, line.standing.unsupported) == (None, 1)


@pytest.mark.parametrize(
    ("budget", "meets"), [(4_000_000, True), (4_050_000, True), (3_650_000, False), (5_000_000, False)]
)
def test_four_million_are_not_five(rows, budget, meets):
    measured = [wide("ssn", 0, 21.0, 1, budget=budget, options={"combine": "emb"})]
    assert any(line.standing for line in lines_of(rows, measured, f"{NPAS} Table 12")) is meets
