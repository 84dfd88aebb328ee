"""What an evaluation leaves: a table of units, maps like the scans, a figure, MLflow."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from giblet_ray.checkpoint.files import load_space
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.figures import units_beside_chance
from giblet_ray.judge.evaluation import Evaluation, Partition
from giblet_ray.tracking.logged_evaluation import log_evaluation

UNITS = "units.parquet"
PARTITION = "partition.parquet"
SCORES = "scores.json"
FIGURE = "units.png"


def write_evaluation(evaluation: Evaluation, figure: Figure, folder: str) -> dict[str, str]:
    """Write an evaluation to a folder or URI; return where each kind of file is.

    Files: ``units.parquet``, a row per subject and unit (subject, unit, pearson, r2, p, q, and with
    a ceiling ceiling and pearson_of_ceiling, or shared_ceiling_low and shared_ceiling_high);
    ``r-SUBJECT`` in the space of the scans, NaN where a unit has no score; with a partition
    ``partition.parquet``, a row per subject and unit with the share of each set of parts in R2, and
    ``PARTS-SUBJECT`` in the space of the scans; ``scores.json``, all numbers by name;
    ``units.png``.
    """
    storage = Storage.at(folder)
    maps = {
        f"r-{subject}": (of.units_V, of.pearson_V, "test r")
        for subject, of in evaluation.subjects.items()
    }
    with storage.write(UNITS) as stream:
        pq.write_table(_table(evaluation), stream)
    written = {"units": storage.describe(UNITS)}
    if (partition := evaluation.partition) is not None:
        with storage.write(PARTITION) as stream:
            pq.write_table(_partition_table(evaluation, partition), stream)
        written["parts"] = storage.describe(PARTITION)
        for subject, shares in partition.shares.items():
            units_V = evaluation.subjects[subject].units_V
            for of, share_V in shares.items():
                says = f"R2 of {' + '.join(of)}, {partition.how}"
                maps[f"{'-'.join(of)}-{subject}"] = (units_V, share_V, says)
    ending = _write_maps(evaluation, maps, storage)
    with storage.write(SCORES) as stream:
        stream.write(json.dumps(evaluation.metrics(), indent=1).encode())
    with storage.write(FIGURE) as stream:
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=150, format="png")
        stream.write(drawn.getvalue())
    named = "r-SUBJECT, PARTS-SUBJECT" if evaluation.partition else "r-SUBJECT"
    return written | {
        "in the scans' space": storage.describe(f"{named}{ending}"),
        "scores": storage.describe(SCORES),
        "figure": storage.describe(FIGURE),
    }


def _write_maps(
    evaluation: Evaluation,
    maps: dict[str, tuple[NDArray, NDArray, str]],
    storage: Storage,
) -> str:
    """Write units, their values and what they are, by file, like the scans; return the ending."""
    checkpoint = evaluation.opened.checkpoint
    dataset = checkpoint.record.dataset
    with checkpoint.files(dataset.space.files.values()) as kept:
        space = load_space(kept, dataset.space, checkpoint.location)
        for name, (units_V, values_V, says) in maps.items():
            values = np.full((1, space.n_units), np.nan, np.float32)
            values[0, units_V] = values_V
            with storage.write(f"{name}{space.ending}") as stream:
                opened = space.open_file(stream, 1, dataset.tr_seconds, 0.0, says)
                with opened as file:
                    file.add(values)
    return space.ending


def record_evaluation(
    evaluation: Evaluation, figure: Figure, job: EvaluateJob, run_folder: str
) -> str | None:
    """Log an evaluation to the MLflow run of a folder; return its id, None if there is none."""
    name, partition = evaluation.judged.name, evaluation.partition
    texts = {} if partition is None else {f"{name}_{partition.how}.csv": partition.csv()}
    figures = {f"{name}_{FIGURE}": figure}
    return log_evaluation(job.tracking.uri, run_folder, evaluation.metrics(), figures, texts)


def _table(evaluation: Evaluation) -> pa.Table:
    tables = []
    for subject, of in evaluation.subjects.items():
        columns = {
            "subject": pa.array([subject] * len(of.units_V)),
            "unit": pa.array(of.units_V.astype(np.int32)),
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
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _partition_table(evaluation: Evaluation, partition: Partition) -> pa.Table:
    tables = []
    for subject, shares in partition.shares.items():
        units_V = evaluation.subjects[subject].units_V
        columns = {
            "subject": pa.array([subject] * len(units_V)),
            "unit": pa.array(units_V.astype(np.int32)),
        }
        for kind, of_kind in (("r2", shares), ("pearson", partition.pearson.get(subject, {}))):
            for of, share_V in of_kind.items():
                columns[f"{kind}/{'+'.join(of)}"] = pa.array(share_V)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def draw_evaluation(evaluation: Evaluation) -> Figure:
    """Draw the units of all subjects beside chance and their ceilings."""
    pearson_V = np.concatenate([each.pearson_V for each in evaluation.subjects.values()])
    ceilings = [e.ceiling_V for e in evaluation.subjects.values() if e.ceiling_V is not None]
    ceiling_V = np.concatenate(ceilings) if ceilings else None
    return units_beside_chance(pearson_V, evaluation.null.null_VP, ceiling_V, evaluation.name)
