"""The files of a comparison: page, figures, and tables for scripts."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from giblet_ray.comparison.figures import (
    MAX_SETTINGS,
    curves_over_epochs,
    importance_bars,
    is_better_above,
    parallel_coordinates,
    score_by_setting,
    voxel_histograms,
)
from giblet_ray.comparison.page import page
from giblet_ray.comparison.paired_figures import difference_matrix
from giblet_ray.comparison.result import ComparedGroup, Comparison
from giblet_ray.comparison.tables import comparison_json, runs_csv
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.drawing import PALETTE
from giblet_ray.evaluation.paired_figure import paired_difference
from giblet_ray.evaluation.score import VAL_PEARSON
from giblet_ray.page import Picture


@dataclass(frozen=True)
class Written:
    """What a comparison was written to: names of files below one folder."""

    storage: Storage
    page: str
    figures: tuple[str, ...]
    csv: str
    json: str

    def rows(self) -> dict[str, str]:
        """Return what a user is shown."""
        return {
            "page": self.storage.describe(self.page),
            "figures": f"{len(self.figures)} in {self.storage.describe('figures')}",
            "for scripts": f"{self.storage.describe(self.csv)}, {self.json}",
        }


def write_comparison(comparison: Comparison, storage: Storage) -> Written:
    """Draw and write everything; files of the same names there are replaced.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    many = len(comparison.groups) > 1
    of_groups = [
        _group_pictures(comparison, compared, f"group-{number}-" if many else "")
        for number, compared in enumerate(comparison.groups, 1)
    ]
    of_pair = _pair_pictures(comparison)
    pictures = [picture for each in (*of_groups, of_pair) for picture in each]
    written = Written(
        storage,
        "comparison.html",
        tuple(f"figures/{picture.name}" for picture in pictures),
        "runs.csv",
        "comparison.json",
    )
    files = {
        **dict(zip(written.figures, (picture.png for picture in pictures), strict=True)),
        written.csv: runs_csv(comparison).encode(),
        written.json: comparison_json(comparison).encode(),
        written.page: page(comparison, of_groups, of_pair).encode(),
    }
    try:
        for name, content in files.items():
            with storage.write(name) as stream:
                stream.write(content)
    except OSError as error:
        raise InputError(f"--out {storage.location}: cannot be written to: {error}") from error
    return written


def _group_pictures(comparison: Comparison, compared: ComparedGroup, prefix: str) -> list[Picture]:
    ranked, labels, metric = compared.group.ranked, comparison.labels, comparison.metric
    if not ranked:
        return []
    pictures = []

    def add(name: str, figure: Figure, caption: str) -> None:
        pictures.append(Picture.of(prefix + name, figure, caption))

    here = [
        name
        for name in compared.settings
        if len({run.settings.get(name, "") for run in ranked}) > 1
    ]
    if compared.importance.shares:
        add(
            "importance",
            importance_bars(compared.importance),
            "Importance of settings: share of the variance of the score, by functional ANOVA, "
            f"{compared.importance.note}. Lines: 95 % intervals, over runs drawn from these.",
        )
    if here and len(ranked) > 1:
        order = "in the order of their importance" if compared.importance.shares else "by name"
        if len(here) > MAX_SETTINGS:
            order += f", the first {MAX_SETTINGS} of {len(here)}"
        add(
            "parallel_coordinates",
            parallel_coordinates(ranked, here, metric),
            f"Each line is a run, from its settings to {metric} ({is_better_above(metric)}); the "
            f"thick line is the best run. Settings stand {order}.",
        )
        add(
            "settings",
            score_by_setting(ranked, here, metric, compared.intervals, compared.importance),
            f"{metric} against each setting that differs. Vertical lines: 95 % intervals over "
            "validation TRs; hollow: not run to its end; dashes: means of the other runs of one "
            "value.",
        )
    add(
        "learning_curves",
        curves_over_epochs(ranked, labels, metric),
        "Learning curves over one another, validation on the left, training on the right.",
    )
    if compared.pearson:
        drawn = [run for run in ranked if run.id in compared.pearson][: len(PALETTE)]
        scores = [
            (labels[run.id], compared.pearson[run.id], run.value(VAL_PEARSON)) for run in drawn
        ]
        add(
            "voxels",
            voxel_histograms(scores, len(ranked)),
            "How many voxels each run predicts how well, on the validation TRs that it was "
            "selected on; dashed lines are the runs' mean r: over voxels, and then over subjects "
            "where each has voxels of its own.",
        )
    if compared.pairs:
        runs = list(dict.fromkeys(run for pair in compared.pairs for run in (pair.a, pair.b)))
        place = {run.id: index for index, run in enumerate(runs)}
        tests = {(place[pair.a.id], place[pair.b.id]): pair.test for pair in compared.pairs}
        first = compared.pairs[0]
        add(
            "paired_matrix",
            difference_matrix([labels[run.id] for run in runs], tests),
            f"Difference in mean r, row minus column, between the best {len(runs)} runs, on the "
            f"{first.test.n_trs:,} validation TRs that all of them have, with its p as one of all "
            f"these pairs, {first.test.smallest_p:.2g} at the least; bold below 0.05.",
        )
    return pictures


def _pair_pictures(comparison: Comparison) -> list[Picture]:
    pair = comparison.pair
    if pair is None:
        return []
    labels = comparison.labels
    units = pair.scored_a.pearson_V, pair.scored_b.pearson_V
    figure = paired_difference(*units, pair.test, labels[pair.a.id], labels[pair.b.id])
    caption = (
        "Left: r of each unit under both runs. Middle: its difference; line: that of the mean r, "
        "in which subjects with units of their own count alike. Right: this mean difference (line; "
        "dashed: the same with the other sign; bar: its interval) among those that chance would "
        "make, given how long errors last."
    )
    return [Picture.of("paired_difference", figure, caption)]
