"""What a preflight says: sections of names and values, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from giblet_ray.errors import InputError


@dataclass
class Report:
    """Sections are shown as they are added; what does not fit is told at the end.

    Attributes
    ----------
    show : callable
        Takes each line that the user should see.
    problems : list of str
        What does not fit, each with what to change.
    """

    show: Callable[[str], None]
    problems: list[str] = field(default_factory=list)

    def add(self, title: str, rows: Mapping[str, str]) -> None:
        """Show a section."""
        width = max(map(len, rows))
        self.show(f"\n{title}")
        for name, value in rows.items():
            self.show(f"  {name:<{width}}  {value}")

    def check(self, say: Callable[[], str], remedy: str = "") -> str:
        """Return what `say` says; an InputError of its is noted as a problem, with a remedy."""
        try:
            return say()
        except InputError as error:
            self.problems.append(f"{error}; {remedy}" if remedy else str(error))
            return f"does not fit: {error}"

    def conclude(self, said: str) -> None:
        """Say that all fits, or raise as :meth:`refuse` does."""
        self.refuse()
        self.show(f"\nfits: {said}")

    def refuse(self) -> None:
        """Raise what does not fit, if there is anything.

        Raises
        ------
        InputError
            For the first problem; it says whether there are more.
        """
        if self.problems:
            more = len(self.problems) - 1
            rest = f" (and {more} more)" if more else ""
            raise InputError(f"does not fit: {self.problems[0]}{rest}")
