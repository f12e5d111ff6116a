"""What an evaluation tells of subjects and splits reaches the database, the terminal, and exchange files."""

import json
from pathlib import Path

from npas_bench.tasks import Evaluation, Measured, Subject
from npas_bench.tasks.classification.digits import Digits


def evaluation_with_subjects(self, network, examples):
    error = {"unit": "%", "higher_is_better": False}
    values = {"error@1": 3.0, "error@5": 1.0, "nll": 0.5, "ece": 2.0}
    return Evaluation(
        [
            Measured(name="error@1", value=5.0, subject="digit 7", **error),
            *(Measured(name=name, value=value, **error) for name, value in values.items()),
            Measured(name="error@1", value=4.0, split="validation", **error),
            Measured(name="error@1", value=6.0, subject="digit 3", **error),
        ],
        [Subject(name="digit 7", parameters=77_562, detail={"examples": 30})],
    )


def test_subjects_and_splits_are_stored_shown_and_exported_and_rank_nothing(call, monkeypatch):
    monkeypatch.setattr(Digits, "evaluate", evaluation_with_subjects)
    cell = ("run", "--task", "digits", "--method", "full", "--seed", "0", "--epochs", "1", "--executor", "inline")
    assert call(*cell).returncode == 0
    board = json.loads(call("leaderboard", "--format", "json").stdout)
    assert "3.0" in json.dumps(board)
    assert "digit 7" not in json.dumps(board)
    shown = call("show", "1").stdout
    assert "digit 7" in shown and "validation" in shown and "77,562" in shown
    assert call("export", "--out", "mine.jsonl").returncode == 0
    record = json.loads(Path("mine.jsonl").read_text(encoding="utf-8"))
    assert [metric["name"] for metric in record["metrics"]] == ["error@1", "error@5", "nll", "ece"]
    assert [(one["subject"], one["split"], one["value"]) for one in record["evaluations"]] == [
        ("digit 7", "test", 5.0),
        ("all", "validation", 4.0),
        ("digit 3", "test", 6.0),
    ]
    assert [subject["name"] for subject in record["subjects"]] == ["digit 7", "digit 3"]
    assert call("import", "mine.jsonl", "--db", "other.db").returncode == 0
    assert call("db", "check", "--db", "other.db").returncode == 0
