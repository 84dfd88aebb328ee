"""What a preflight says: sections of names and values, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from giblet_ray.errors import InputError
from giblet_ray.preflight.need import Need
from giblet_ray.progress import Show


@dataclass
class Report:
    """Sections are shown as they are added; what does not fit is told at the end.

    Attributes
    ----------
    show : Show
    problems, doubts : list of str
        What does not fit, and what may not, each with what to change.
    """

    show: Show
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def add(self, title: str, rows: Mapping[str, str]) -> None:
        """Show a section."""
        width = max(map(len, rows))
        self.show(f"\n{title}")
        for name, value in rows.items():
            self.show(f"  {name:<{width}}  {value}")

    def check(self, fits: Callable[[int], str], need: Need, remedy: str = "") -> str:
        """Return what `fits` says of the bytes that are needed.

        An InputError of its is noted: as a problem where it is raised of what is surely needed
        too, else as a doubt.
        """
        try:
            return fits(need.total)
        except InputError as error:
            noted, verdict = self.doubts, "may not fit"
            try:
                fits(need.sure)
            except InputError:
                noted, verdict = self.problems, "does not fit"
            noted.append(f"{error}; {remedy}" if remedy else str(error))
            return f"{verdict}: {error}"

    def conclude(self, said: str) -> None:
        """Say whether all fits.

        Raises
        ------
        InputError
            For the first problem; it says whether there are more.
        """
        self._raise("")
        fits = f"may not fit: {self.doubts[0]}{_more(self.doubts)}; " if self.doubts else "fits: "
        self.show(f"\n{fits}{said}")

    def refuse(self, force: bool) -> None:
        """End a job that is about to start if something does not fit; say so if it is forced.

        Raises
        ------
        InputError
            Unless forced; as :meth:`conclude` does.
        """
        if force:
            for problem in self.problems:
                self.show(f"forced: does not fit: {problem}")
        else:
            self._raise("; --preflight.force goes on all the same")

    def _raise(self, remedy: str) -> None:
        if self.problems:
            raise InputError(f"does not fit: {self.problems[0]}{_more(self.problems)}{remedy}")


def _more(notes: list[str]) -> str:
    return f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
