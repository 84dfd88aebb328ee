"""What an evaluation leaves: a table of units, maps like the scans, a report, MLflow."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.evaluation import Evaluation, Partition
from giblet_ray.judge.regions import as_csv, by_region
from giblet_ray.judge.report.methods import Code
from giblet_ray.judge.report.report import REPORT, make_report
from giblet_ray.spaces.space import Series
from giblet_ray.tracking.logged_evaluation import log_evaluation, recorded_run
from giblet_ray.tracking.mlflow_run import git_commit, package_version

UNITS = "units.parquet"
PARTITION = "partition.parquet"
REGIONS = "regions.csv"
SCORES = "scores.json"
_PACKAGES = ("giblet_ray", "torch", "numpy", "himalaya", "nilearn")
"""That numbers and maps come from."""


def write_evaluation(evaluation: Evaluation, folder: str) -> dict[str, str]:
    """Write an evaluation to a folder or URI; return where each kind of file is.

    Files: ``units.parquet``, a row per subject and unit (subject, unit, of parcels its name,
    pearson, r2, p, q, and with a ceiling ceiling and pearson_of_ceiling, or shared_ceiling_low and
    shared_ceiling_high); ``r-SUBJECT`` in the space of the scans, NaN where a unit has no score;
    with a partition ``partition.parquet``, a row per subject and unit with the share of each set of
    parts in R2, and ``PARTS-SUBJECT`` in the space of the scans; with an atlas ``regions.csv``, a
    row per subject and region; where the model has learned responses, when each unit's peaks (s),
    as the column response_peak_seconds and as ``peak-SUBJECT`` in the space of the scans;
    ``scores.json``, all numbers by name.
    """
    storage = Storage.at(folder)
    maps = {
        f"r-{subject}": (subject, of.pearson_V, "test r")
        for subject, of in evaluation.subjects.items()
    }
    for subject, learned in evaluation.responses.items():
        maps[f"peak-{subject}"] = (subject, learned.peak_V, "time to peak (s)")
    with storage.write(UNITS) as stream:
        pq.write_table(_table(evaluation), stream)
    written = {"units": storage.describe(UNITS)}
    if (partition := evaluation.partition) is not None:
        with storage.write(PARTITION) as stream:
            pq.write_table(_partition_table(evaluation, partition), stream)
        written["parts"] = storage.describe(PARTITION)
        for subject, shares in partition.shares.items():
            for of, share_V in shares.items():
                says = f"R2 of {' + '.join(of)}, {partition.how}"
                maps[f"{'-'.join(of)}-{subject}"] = (subject, share_V, says)
    if evaluation.regions:
        regions = by_region(evaluation.subjects, evaluation.regions, evaluation.partition)
        with storage.write(REGIONS) as stream:
            stream.write(as_csv(regions).encode())
        written["regions"] = storage.describe(REGIONS)
    endings = _write_maps(evaluation, maps, storage)
    with storage.write(SCORES) as stream:
        stream.write(json.dumps(evaluation.metrics(), indent=1).encode())
    kinds = ["r", *["PARTS"] * bool(evaluation.partition), *["peak"] * bool(evaluation.responses)]
    named = ", ".join(f"{kind}-SUBJECT{ending}" for kind in kinds for ending in endings)
    return written | {
        "in the scans' space": storage.describe(named),
        "scores": storage.describe(SCORES),
    }


def _write_maps(
    evaluation: Evaluation, maps: dict[str, tuple[str, NDArray, str]], storage: Storage
) -> tuple[str, ...]:
    """Write a subject's values and what they are, by file, like the scans; return the endings."""
    spaces = evaluation.opened.spaces
    endings: dict[str, None] = {}
    tr_seconds = evaluation.opened.checkpoint.record.dataset.tr_seconds
    for name, (subject, values_V, says) in maps.items():
        space = spaces[subject]
        endings |= dict.fromkeys(space.endings)
        with ExitStack() as opened:
            streams = [
                opened.enter_context(storage.write(f"{name}{ending}")) for ending in space.endings
            ]
            file = opened.enter_context(space.open_files(streams, Series(1, tr_seconds, 0.0, says)))
            file.add(evaluation.subjects[subject].placed(values_V, space.n_units)[None])
    return tuple(endings)


def write_report(
    evaluation: Evaluation, job: EvaluateJob, run_folders: Sequence[str], folder: str
) -> dict[str, str]:
    """Write ``report.html`` beside the tables, log all to MLflow, and return where they are.

    The MLflow runs are those of the runs' folders. Where there is none, or no MLflow, that is said.
    """
    uri, storage, recorded = job.tracking.uri, Storage.at(folder), []
    where = f"none of this folder in {uri}"
    try:
        found = (recorded_run(uri, each) for each in run_folders)
        recorded = [run for run in found if run is not None]
    except InputError as error:  # what was judged is written all the same
        where = f"none: {error}"
    if recorded:
        where = f"{', '.join(run.id for run in recorded)} in {uri}"
    trained = ", ".join(dict.fromkeys(run.commit for run in recorded if run.commit))
    page, pictures = make_report(
        evaluation, job, Code(trained, git_commit() or "", _versions(), where)
    )
    with storage.write(REPORT) as stream:
        stream.write(page.encode())
    files = {f"report/{picture.name}": picture.png for picture in pictures}
    files[REPORT] = page.encode()
    if (partition := evaluation.partition) is not None:
        files[f"{evaluation.judged.name}_{partition.how}.csv"] = partition.csv().encode()
    for run in recorded:
        log_evaluation(uri, run.id, evaluation.metrics(), files)
    return {"MLflow run": where, "report": storage.describe(REPORT)}


def _table(evaluation: Evaluation) -> pa.Table:
    tables = []
    for subject, of in evaluation.subjects.items():
        columns = {
            "subject": pa.array([subject] * len(of.units_V)),
            "unit": pa.array(of.units_V.astype(np.int32)),
            **_names(evaluation, subject),
            "pearson": pa.array(of.pearson_V),
            "r2": pa.array(of.r2_V),
            "p": pa.array(of.p_V),
            "q": pa.array(of.q_V),
        }
        if of.ceiling_V is not None and of.normalised_V is not None:
            columns["ceiling"] = pa.array(of.ceiling_V)
            columns["pearson_of_ceiling"] = pa.array(of.normalised_V)
        if of.shared_low_V is not None and of.shared_high_V is not None:
            columns["shared_ceiling_low"] = pa.array(of.shared_low_V)
            columns["shared_ceiling_high"] = pa.array(of.shared_high_V)
        if subject in evaluation.responses:
            columns["response_peak_seconds"] = pa.array(evaluation.responses[subject].peak_V)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default")


def _partition_table(evaluation: Evaluation, partition: Partition) -> pa.Table:
    tables = []
    for subject, shares in partition.shares.items():
        units_V = evaluation.subjects[subject].units_V
        columns = {
            "subject": pa.array([subject] * len(units_V)),
            "unit": pa.array(units_V.astype(np.int32)),
            **_names(evaluation, subject),
        }
        for kind, of_kind in (("r2", shares), ("pearson", partition.pearson.get(subject, {}))):
            for of, share_V in of_kind.items():
                columns[f"{kind}/{'+'.join(of)}"] = pa.array(share_V)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default")


def _names(evaluation: Evaluation, subject: str) -> dict[str, pa.Array]:
    """Return a column of what a subject's units are called; none where they have no names."""
    names = evaluation.opened.spaces[subject].unit_names
    if names is None:
        return {}
    return {"name": pa.array([names[unit] for unit in evaluation.subjects[subject].units_V])}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        package: package_version(package) for package in _PACKAGES
    }
