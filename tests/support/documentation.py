"""The commands and snippets that the documentation shows."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


PAGES = [
    str(path.relative_to(ROOT))
    for path in _files("README.md", "deploy/*.md", "docs/**/*.md", "recipes/*/README.md")
]
SCRIPTS = _files("jobs/*.py", "benchmarks/*.py", "deploy/*.py", "recipes/*/*.py")
CONFIGURATIONS = _files(
    "*.yaml", "jobs/*.yaml", "recipes/**/*.yaml", "deploy/*.yaml", "deploy/*.example"
)
_PROGRAMS = "python|ray|make|mlflow|kubectl|source"
_SEPARATORS = {"&&", ";", ";;", "||", "|"}


@dataclass(frozen=True)
class Command:
    """A command, and where it stands."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """Return every command of the pages' blocks and text, of scripts' and settings' heads."""
    found = []
    for page in PAGES:
        found += [*block_commands(page), *span_commands(page)]
    for path in SCRIPTS:
        head = ast.get_docstring(ast.parse(path.read_text())) or ""
        shown = [line[4:] for line in head.splitlines() if line.startswith("    ")]
        found += _of_head(path, shown)
    for path in CONFIGURATIONS:
        lines = path.read_text().splitlines()
        found += _of_head(path, [line[4:] for line in lines if line.startswith("#   ")])
    return found


def block_commands(page: str) -> list[Command]:
    """Return the commands of a page's blocks, in order."""
    shown = [block for language, block in blocks(page) if not language]
    return [Command(page, words) for block in shown for words in split(block)]


def span_commands(page: str) -> list[Command]:
    """Return the commands that stand in a page's text."""
    found = [span for span in spans(page) if re.match(r"(python|make|pip|mlflow|ssh) ", span)]
    return [Command(page, words) for span in found for words in split(span)]


def spans(page: str) -> list[str]:
    """Return what stands between backticks in a page's text."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", text)


def blocks(page: str) -> list[tuple[str, str]]:
    """Return language and text of a page's blocks; a shell's have no language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)


def split(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command that a shell would run; where output goes to is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        tokens = iter(lexer)
        for token in tokens:
            if token == ">":
                next(tokens)
            elif token in _SEPARATORS:
                yield tuple(words)
                words = []
            else:
                words.append(token)
        if words:
            yield tuple(words)


def _of_head(path: Path, lines: list[str]) -> list[Command]:
    """Return the commands among the lines of a file's head."""
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    shown = [line for line in joined if re.match(rf"({_PROGRAMS}) ", line)]
    where = str(path.relative_to(ROOT))
    return [Command(where, words) for words in split("\n".join(shown))]


def job_words(command: Command) -> tuple[str, ...] | None:
    """Return the words of a command from the job's file on, if it runs or submits a job."""
    for before, word in itertools.pairwise(command.words):
        if before == "python" and word.startswith("jobs/"):
            return command.words[command.words.index(word) :]
    return None
