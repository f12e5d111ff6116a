"""What tasks may return from an evaluation, and which of it ranks a run."""

import math

import pytest

from npas_bench.errors import NpasBenchError
from npas_bench.tasks import Evaluation, Measured, Metric, Subject
from npas_bench.training.evaluation import not_finite

METRICS = (Metric("f1", "%", higher_is_better=True), Metric("nll", "", higher_is_better=False))


def measured(name, value, **more):
    return Measured(name=name, value=value, unit="%", higher_is_better=True, **more)


def test_a_dictionary_is_the_task_s_metrics_in_their_order():
    found = Evaluation.of({"nll": 0.5, "f1": 80.0, "beside": 3.0}, METRICS)
    assert [(one.name, one.value, one.unit, one.higher_is_better) for one in found.ranking] == [
        ("f1", 80.0, "%", True),
        ("nll", 0.5, "", False),
    ]
    assert found.others == [] and found.subjects == ()


def test_values_of_other_subjects_and_splits_rank_nothing():
    given = Evaluation(
        [
            measured("nll", 0.5),
            measured("f1", 60.0, subject="answerable"),
            measured("f1", 80.0),
            measured("f1", 81.0, split="validation"),
        ],
        [Subject(name="answerable", detail={"questions": 12})],
    )
    found = Evaluation.of(given, METRICS)
    assert [one.name for one in found.ranking] == ["f1", "nll"]
    assert [(one.subject, one.split, one.value) for one in found.others] == [
        ("answerable", "test", 60.0),
        ("all", "validation", 81.0),
    ]
    assert [subject.name for subject in found.subjects] == ["answerable"]


def test_a_subject_that_is_only_named_has_a_description_without_facts():
    values = [
        measured("f1", 80.0),
        measured("nll", 0.5),
        measured("f1", 60.0, subject="b"),
        measured("f1", 61.0, subject="a"),
    ]
    found = Evaluation.of(Evaluation(values, [Subject(name="a", parameters=5)]), METRICS)
    assert found.subjects == (Subject(name="a", parameters=5), Subject(name="b"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"f1": 1.0}, "lacks its metrics nll"),
        (Evaluation([measured("f1", 1.0, subject="a")]), "lacks its metrics f1, nll"),
        (
            Evaluation([measured("f1", 1.0), measured("nll", 2.0), measured("em", 3.0)]),
            "tells em, which its metrics do not",
        ),
        (Evaluation([measured("f1", 1.0), measured("nll", 2.0)], [Subject(name="all")]), "describes a subject 'all'"),
        (Evaluation([measured("f1", 1.0), measured("f1", 2.0)]), "tells metric .*'f1'.* twice"),
        (Evaluation([measured("f1", 1.0), measured("nll", 2.0)], [Subject(name="a")] * 2), "tells subject a twice"),
    ],
)
def test_what_is_missing_or_told_twice_is_refused_by_name(found, message):
    with pytest.raises(NpasBenchError, match=message):
        Evaluation.of(found, METRICS)


def test_a_value_that_is_not_finite_is_told_by_its_name():
    assert not_finite(Evaluation.of({"f1": math.nan, "nll": 1.0}, METRICS)) == ["f1"]
