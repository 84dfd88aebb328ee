"""A comparison for scripts: ``comparison.json`` and ``runs.csv``.

``comparison.json``::

    experiment, tracking_uri, metric, higher_is_better, metric_taken_at
    notes         what a reader must know, a list of sentences
    groups        runs that may be ranked together, the largest group first:
      title         data set, and what tells the group from the others
      grouping      data set checksum and settings that decide which TRs and voxels are scored
      settings      dotted names of the settings that differ, the most important first
      importance    {shares: {name: 0 to 1}, intervals: {name: {low, high}}, n_runs, note};
                    intervals are 95 %, over runs
      runs          best first, then those without a score:
        rank, id, run, sweep, folder, dataset, commit
        status, cause FINISHED, RUNNING, KILLED, FAILED, or STOPPED by its sweep; and why
        value         the metric at the best epoch; null without one
        interval      {low, high, n_trs}: 95 %, over stretches of validation TRs (selected on),
                      of the best few runs; null where not known
        metrics       every metric of epochs, at the best epoch
        best_epoch, epochs, seconds, rows_per_second
        settings      every setting by dotted name; lists as lists, numbers as numbers
      pairs         paired tests between the best few runs, as below
    pair          the two chosen runs, or the best two; null where they cannot be paired:
      a, b          ids; differences are a - b
      difference    of mean r over scans, subjects and voxels; low, high: its 95 % interval
      p             two-sided, of this pair alone; family_p: as one of all pairs tested with it
      n_permutations, smallest_p    rotations behind family_p, and the smallest that they can give
      n_cosines     degrees of freedom; n_trs (of stimuli), n_voxels
      mean_r_a, mean_r_b    on the TRs that are compared
      warning       why the test can tell little; empty if it can

``runs.csv`` has one row per run of all groups, with ``group`` and ``rank``, ``<metric>`` with
``.low`` and ``.high``, the metrics, and a column for each setting that differs, by dotted name.
Numbers are numbers; what is not known is empty, and null in JSON.
"""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np

from giblet_ray.comparison.result import ComparedGroup, Comparison, Pair
from giblet_ray.comparison.runs import ComparedRun, is_number, show_setting
from giblet_ray.evaluation.score import Score


def comparison_json(comparison: Comparison) -> str:
    """Return a comparison as JSON; see the module's docstring."""
    content = {
        "experiment": comparison.experiment,
        "tracking_uri": comparison.uri,
        "metric": comparison.metric,
        "higher_is_better": Score(comparison.metric).higher_is_better,
        "metric_taken_at": "each run's best epoch, by its train.score",
        "notes": list(comparison.notes),
        "groups": [_group(comparison, compared) for compared in comparison.groups],
        "pair": None if comparison.pair is None else _pair(comparison.pair),
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def runs_csv(comparison: Comparison) -> str:
    """Return one row per run as CSV; see the module's docstring."""
    metric = comparison.metric
    rows: list[dict[str, Any]] = []
    for number, compared in enumerate(comparison.groups, 1):
        for run in compared.group.runs:
            known = _run(run, compared, metric)
            interval = known["interval"] or {}
            row = {"group": number, "rank": known["rank"], "run": known["run"], "id": known["id"]}
            row |= {metric: known["value"]}
            row |= {f"{metric}.{end}": interval.get(end) for end in ("low", "high")}
            row |= {key: known[key] for key in _DESCRIBED}
            row |= {name: value for name, value in known["metrics"].items() if name != metric}
            row |= {name: _cell(run.settings.get(name)) for name in compared.settings}
            rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(rows))
    return text.getvalue()


_DESCRIBED = (
    "status",
    "cause",
    "sweep",
    "best_epoch",
    "epochs",
    "seconds",
    "rows_per_second",
    "dataset",
    "commit",
    "folder",
)


def _group(comparison: Comparison, compared: ComparedGroup) -> dict[str, Any]:
    group = compared.group
    return {
        "title": group.title,
        "grouping": group.grouping,
        "settings": list(compared.settings),
        "importance": {
            "shares": compared.importance.shares,
            "intervals": {
                name: {"low": low, "high": high}
                for name, (low, high) in compared.importance.intervals.items()
            },
            "n_runs": compared.importance.n_runs,
            "note": compared.importance.note,
        },
        "runs": [_run(run, compared, comparison.metric) for run in group.runs],
        "pairs": [_pair(pair) for pair in compared.pairs],
    }


def _run(run: ComparedRun, compared: ComparedGroup, metric: str) -> dict[str, Any]:
    interval = compared.intervals.get(run.id)
    ranked = run in compared.group.ranked
    names = sorted({*run.curves, *run.logged_best})
    return {
        "rank": compared.group.ranked.index(run) + 1 if ranked else None,
        "id": run.id,
        "run": run.name,
        "sweep": run.sweep,
        "status": run.status,
        "cause": run.cause,
        "folder": run.folder,
        "dataset": run.dataset,
        "commit": run.commit,
        "value": run.value(metric),
        "interval": None
        if interval is None
        else {"low": interval.low, "high": interval.high, "n_trs": interval.n_trs},
        "metrics": {name: run.value(name) for name in names},
        "best_epoch": run.best_epoch,
        "epochs": run.epochs,
        "seconds": run.seconds,
        "rows_per_second": run.rows_per_second,
        "settings": dict(run.settings),
    }


def _pair(pair: Pair) -> dict[str, Any]:
    test = pair.test
    return {
        "a": pair.a.id,
        "b": pair.b.id,
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "family_p": test.family_p,
        "n_permutations": len(test.null_P),
        "smallest_p": test.smallest_p,
        "n_cosines": test.n_cosines,
        "n_trs": test.n_trs,
        "n_voxels": pair.n_voxels,
        "mean_r_a": pair.scored_a.mean.value,
        "mean_r_b": pair.scored_b.mean.value,
        "warning": pair.warning,
    }


def _cell(value: Any) -> Any:
    """Return a setting as a cell of a table: a number as it is, all else as a user types it."""
    return value if value is None or is_number(value) else show_setting(value)


def _plain(value: Any) -> Any:
    """Return a value made of what JSON has; numbers that are not finite are null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
