"""The pages of the docs: their links lead somewhere, and the commands that they show exist."""

import re
import shlex

import pytest
import typer
import yaml

from npas_bench.cli.main import app
from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("examples/**/*.md")])
COMMANDS = typer.main.get_command(app)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`|^ {4}.+$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def name(page):
    return str(page.relative_to(REPOSITORY))


def anchors(page):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def commands(text):
    """Every `npas-bench ...` that a page shows, alone on a line or inside a sentence, without what a comment adds."""
    text = text.replace("\\\n", " ")
    inline = re.findall(r"`(?:\.venv/bin/)?(npas-bench(?:\s[^`]*)?)`", text)
    blocks = re.findall(r"^```.*?^```|^ {4}.+$", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?(npas-bench(?: .+)?)$", "\n".join(blocks), re.MULTILINE)
    return [" ".join(shown.split("  #")[0].split()) for shown in [*inline, *lines]]


def problem(shown):
    """What is wrong with a command that a page shows; None if nothing is."""
    command, words = COMMANDS, shlex.split(shown)[1:]
    while isinstance(command, typer.core.TyperGroup) and words and not words[0].startswith("-"):
        word = words.pop(0)
        if word not in command.commands:
            return f"{shown}: there is no command {word}"
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"{shown}: {command.name} has no {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_shown_exist_with_their_options(page):
    found = [problem(shown) for shown in commands(page.read_text(encoding="utf-8"))]
    assert [one for one in found if one] == []


def test_the_readme_shows_every_command():
    shown = " ".join(commands((REPOSITORY / "README.md").read_text(encoding="utf-8")))
    assert [command for command in COMMANDS.commands if f"npas-bench {command}" not in shown] == []


def test_options_in_a_row_of_the_readme_are_those_of_the_command_that_it_begins_with():
    rows = re.findall(r"^\| `npas-bench .*$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        command = " ".join(re.match(r"npas-bench( [a-z]+)( upgrade| check| methods)?", first)[0].split())
        assert [problem(f"{command} {other}") for other in others if other.startswith("--")] == [
            None for other in others if other.startswith("--")
        ], row


def test_the_citation_names_this_package():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"].startswith("npas-bench")
    assert citation["authors"]
    assert citation["license"] == "MIT"
