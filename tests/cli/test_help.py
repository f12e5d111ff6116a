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
