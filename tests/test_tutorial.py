"""The tutorial: what the notebook holds as it is committed.

tests/faults/test_tutorial.py runs it, and has its numbers.
"""

from __future__ import annotations

import re

import nbformat
from tutorial import NOTEBOOK, check_cells, check_numbers, code_cells

MOST_BYTES = 600_000


def test_the_committed_notebook_holds_what_it_gave() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check_cells(notebook)
    check_numbers(notebook)
    assert NOTEBOOK.stat().st_size < MOST_BYTES


def test_what_it_imports_is_there() -> None:
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    lines = [line for cell in cells for line in cell.source.splitlines()]
    imports = [line for line in lines if re.match(r"(from|import) giblet_ray", line)]
    assert imports
    for line in imports:
        exec(line, {})
