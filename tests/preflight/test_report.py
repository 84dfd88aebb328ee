"""What does not fit, and what may not."""

from __future__ import annotations

import pytest

from giblet_ray.errors import InputError
from giblet_ray.preflight.need import Need
from giblet_ray.preflight.report import Report


def room_for_10(needed: int) -> str:
    if needed > 10:
        raise InputError(f"{needed} of 10")
    return f"{needed} fit"


def reported(*needs: Need) -> tuple[Report, list[str]]:
    lines: list[str] = []
    report = Report(lines.append)
    report.add("room", {str(n): report.check(room_for_10, n, "use less") for n in needs})
    return report, lines


def test_what_is_surely_needed_is_refused_and_can_be_forced() -> None:
    report, lines = reported(Need({"weights": 12}), Need({"weights": 11}, {"CUDA": 1}))
    assert "does not fit: 12 of 10" in lines[-1]
    refusal = r"^does not fit: 12 of 10; use less \(and 1 more\)"
    with pytest.raises(InputError, match=rf"{refusal}$"):
        report.conclude("nothing was done")
    with pytest.raises(InputError, match=rf"{refusal}; --preflight.force goes on all the same$"):
        report.refuse(force=False)
    report.refuse(force=True)
    assert lines[-1] == "forced: does not fit: 12 of 10; use less"


def test_an_estimate_that_does_not_fit_is_said_and_refuses_nothing() -> None:
    report, lines = reported(Need({"weights": 8}, {"activations (assumed)": 4}))
    assert "may not fit: 12 of 10" in lines[-1]
    report.refuse(force=False)
    report.conclude("nothing was done")
    assert lines[-1] == "\nmay not fit: 12 of 10; use less; nothing was done"


def test_what_fits_is_said() -> None:
    report, lines = reported(Need({"weights": 8}, {"CUDA": 2}))
    report.conclude("nothing was done")
    assert lines[-2:] == ["  weights 0.0 kB + CUDA 0.0 kB  10 fit", "\nfits: nothing was done"]
