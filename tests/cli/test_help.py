"""The help of the commands: every command and every option says in a sentence what it does."""

import re

import pytest
import typer

from npas_bench.cli.main import app


def leaves(command, path=()):
    """Every command that does something, with the words that call it."""
    if isinstance(command, typer.core.TyperGroup):
        return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, (*path, name))]
    return [(" ".join(path), command)]


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_in_a_sentence_what_it_does(name):
    command = COMMANDS[name]
    texts = {name: command.help} | {f"{name} {one.opts[0]}": one.help for one in command.params}
    assert {told: text for told, text in texts.items() if not re.match(r"[A-Z].*\.$", text or "", re.DOTALL)} == {}


@pytest.mark.parametrize("words", [("--help",), ("list", "--help"), ("db", "--help")], ids=" ".join)
def test_the_help_of_a_group_shows_the_whole_sentence_about_each_command(words, call):
    # Lines end at blanks and hyphens.
    shown = "".join(call(*words).stdout.split())
    group = typer.main.get_command(app)
    for word in words[:-1]:
        group = group.commands[word]
    for command in group.commands.values():
        sentence = " ".join(command.help.split("\n\n")[0].split()).partition(". ")[0]
        assert sentence.replace(" ", "") in shown
    assert "..." not in shown.replace("[ARGS]...", "")


HUGE = ("9223372036854775807", "99999999999999999999")


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize(
    "words",
    [
        ("show", "N"),
        ("cancel", "N"),
        ("reproduce", "N"),
        ("weights", "N", "--out", "x.safetensors"),
        ("runs", "--limit", "N"),
        ("leaderboard", "--limit", "N"),
        ("compare", "--limit", "N"),
        ("status", "--limit", "N"),
        ("plan", "--task", "digits", "--method", "full", "--workers", "N"),
        ("plan", "--task", "digits", "--method", "full", "--limit", "N"),
    ],
    ids=lambda words: " ".join(words[:1] + words[-2:-1]),
)
def test_a_number_that_no_database_holds_is_a_mistake_in_the_command(words, number, call):
    said = call(*(number if word == "N" else word for word in words))
    assert said.returncode == 2
    assert "Invalid value for" in said.stderr
    assert "less than or equal to" in said.stderr
