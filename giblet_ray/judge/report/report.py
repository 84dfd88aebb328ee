"""The page of a run: what it reaches on test TRs, drawn and told so that a reviewer can follow.

What there is no data for is left out, and a sentence says why, or how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from giblet_ray.checkpoint.store import epoch_history
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.figures import epoch_curves, learning_curves
from giblet_ray.evaluation.paired_figure import paired_difference
from giblet_ray.evaluation.unit_scores import nanmean
from giblet_ray.judge.evaluation import Evaluation, Q
from giblet_ray.judge.regions import by_region, over_subjects, shown
from giblet_ray.judge.report.maps import (
    MOST_ROWS,
    brains,
    cortex_of,
    glass_brains,
    no_glass_brain,
    no_surface,
    surfaces,
)
from giblet_ray.judge.report.methods import Code, methods, settings_of
from giblet_ray.judge.report.partition_figure import in_words, partition_figure
from giblet_ray.judge.report.response_figure import response_figure
from giblet_ray.judge.report.time_figures import MOST_LINES, MOST_TRS, courses_figure, split_figure
from giblet_ray.judge.report.unit_figures import (
    ceiling_figure,
    chance_figure,
    shared_ceiling_figure,
    units_figure,
)
from giblet_ray.page import Picture, whole_page
from giblet_ray.spaces.space import Space

REPORT = "report.html"
MOST_REGIONS = 40
"""Regions in the page's table."""


@dataclass(frozen=True)
class Section:
    """A heading, with its figures, or a sentence that says why there is none."""

    title: str
    pictures: Sequence[Picture] = ()
    note: str = ""
    rows: Sequence[Mapping[str, str]] = ()
    """Of a table, by column."""

    def html(self) -> str:
        """Return it as part of a page."""
        note = f'<p class="soft">{escape(self.note)}.</p>' if self.note else ""
        figures = "".join(picture.html() for picture in self.pictures)
        return f"<section><h2>{escape(self.title)}</h2>{note}{self._table()}{figures}</section>"

    def _table(self) -> str:
        if not self.rows:
            return ""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.values())}</tr>"
            for row in self.rows
        )
        return (
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )


def make_report(evaluation: Evaluation, job: EvaluateJob, code: Code) -> tuple[str, list[Picture]]:
    """Return the page of a run, and its figures.

    Parameters
    ----------
    evaluation : Evaluation
        What is said of the run.
    job : EvaluateJob
        How it was judged.
    code : Code
        Which code ran.

    Raises
    ------
    InputError
        If the run's checkpoint cannot be read.
    """
    history = _history(evaluation)
    of_run = (_units, _maps, _regions, _chance, _ceiling, _ridge, _partition, _responses, _courses)
    sections = [draw(evaluation) for draw in of_run]
    sections += [_learning(evaluation, history), _split(evaluation)]
    told = methods(evaluation, job, history, code)
    body = [_summary(evaluation), *(each.html() for each in sections), _methods(told)]
    body.append(_settings(evaluation))
    page = whole_page(f"{evaluation.name}: test report", _lead(evaluation), body)
    return page, [picture for section in sections for picture in section.pictures]


def _lead(evaluation: Evaluation) -> str:
    interval, judged = evaluation.interval, evaluation.judged
    words = f"mean r {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    if evaluation.normalised is not None:
        words += f", {evaluation.normalised:.0%} of the noise ceiling"
    if evaluation.baseline is not None:
        test = evaluation.baseline.beside
        words += (
            f"; banded ridge {evaluation.baseline.mean.value:.3f}, difference "
            f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        )
    seen = ", of films that other repeats trained on" if judged.name == "test_seen_film" else ""
    return (
        f'<p class="lead">On {judged.n_trs:,} test TRs, which nothing was chosen on{seen}: '
        f"<b>{escape(words)}</b>. Brackets: 95&nbsp;% intervals.</p>"
    )


def _summary(evaluation: Evaluation) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="cause">{escape(value)}</td></tr>'
        for name, value in evaluation.summary().items()
    )
    return f'<section><div class="wide"><table><tbody>{rows}</tbody></table></div></section>'


def _units(evaluation: Evaluation) -> Section:
    subjects = evaluation.subjects
    ceilings = {name: of.ceiling_V for name, of in subjects.items() if of.ceiling_V is not None}
    figure = units_figure({name: of.pearson_V for name, of in subjects.items()}, ceilings or None)
    pearson = _joined(evaluation, "pearson_V")
    pearson = pearson[np.isfinite(pearson)]
    dashed = " Dashed: their noise ceilings, sorted for themselves." if ceilings else ""
    caption = (
        f"How well units are predicted. Left: share of a subject's units by r; "
        f"half of the {len(pearson):,} units of all subjects lie between "
        f"{np.percentile(pearson, 25):.3f} and {np.percentile(pearson, 75):.3f}, and "
        f"{(pearson > 0).mean():.1%} above 0. Right: r of the units from the best to the worst, as "
        f"quantiles.{dashed}"
    )
    return Section("Units", [Picture.of("units", figure, caption)])


def _maps(evaluation: Evaluation) -> Section:
    pictures: list[Picture] = []
    notes: list[str] = []
    for space, names in evaluation.opened.subjects_by_space():
        more, note = _maps_in(evaluation, space, names, str(len(pictures) or ""))
        pictures += more
        notes += [note] if note else []
    return Section("Where in the brain", pictures, "; ".join(dict.fromkeys(notes)))


def _maps_in(
    evaluation: Evaluation, space: Space, names: Sequence[str], number: str
) -> tuple[list[Picture], str]:
    """Return maps of the subjects whose units are of a space, and why there are no more."""
    maps_V = {
        f"subject {name}": of.placed(of.pearson_V, space.n_units)
        for name, of in evaluation.subjects.items()
        if name in names
    }
    label, assumed = "Pearson r on test TRs", ""
    pictures, notes = [], []
    if (why := no_glass_brain(space)) and why == no_surface(space):
        return [], f"No map: {why}"
    if why:
        notes.append(f"No glass brain: {why}")
    else:
        shown = dict(list(maps_V.items())[:MOST_ROWS])
        few = len(maps_V) > len(shown)
        more = f" The first {len(shown)} of {len(maps_V)} subjects." if few else ""
        assumed = (
            " The voxels are drawn where the affine of the scans has them, taken to be MNI space: "
            "of scans in a subject's own space, the outlines are only near."
        )
        caption = (
            "Glass brain: r of the best voxel along each line of sight, from the left, the back, "
            f"the right and above; pale is 0 or less, dark is high.{more}{assumed}"
        )
        figure = glass_brains(shown, space, label)
        pictures.append(Picture.of(f"glass_brain{number}", figure, caption))
    cortex = surfaces({"": nanmean(list(maps_V.values()))}, space, label)
    if cortex is None:
        why = no_surface(space) or "none of the units lies in the cortex of fsaverage5"
        notes.append(f"No surface: {why}")
    else:
        caption = (
            f"Cortical surface ({cortex_of(space).name}, inflated): r, mean over subjects, of each "
            "vertex; grey where none has a number. A vertex of scans that are volumes has the "
            "voxels between the white and the pial surface."
            f"{assumed and ' MNI space is assumed as above.'}"
        )
        pictures.append(Picture.of(f"surface{number}", cortex, caption))
    return pictures, "; ".join(notes)


def _regions(evaluation: Evaluation) -> Section:
    title = "By region"
    if not evaluation.regions:
        return Section(title, note="No atlas was given: --atlas, a label image on the units' grid")
    regions = by_region(evaluation.subjects, evaluation.regions, evaluation.partition)
    rows = over_subjects(regions)
    few = f"the best {MOST_REGIONS} of {len(rows)} regions, " if len(rows) > MOST_REGIONS else ""
    note = (
        f"Means over units, then subjects, by r: {few}all of them and each subject's in "
        f"regions.csv; significant: share of units with q <= {Q:g}; r2: what parts carry"
    )
    table = [{key: shown(value) for key, value in row.items()} for row in rows[:MOST_REGIONS]]
    return Section(title, note=note, rows=table)


def _chance(evaluation: Evaluation) -> Section:
    null = evaluation.null
    figure = chance_figure(_joined(evaluation, "pearson_V"), null, evaluation.interval)
    caption = (
        "Data beside chance: BOLD shifted against the film, so that it has nothing to do with it. "
        "Left: share of units by r, under all shifts together (grey) and as measured (line); under "
        "shifts, units are means over subjects. Right: the mean r, under each shift and as "
        f"measured (line; bar: 95 % interval). Smallest p {null.smallest_p:.2g}."
    )
    return Section("Chance", [Picture.of("chance", figure, caption)])


def _ceiling(evaluation: Evaluation) -> Section:
    title = "Noise ceiling"
    if evaluation.shared_ceiling is not None:
        return _shared_ceiling(evaluation)
    if not evaluation.ceiling:
        note = (
            "No noise ceiling was asked for: --ceiling repeats or split_half, of test TRs that "
            "were scanned again; subjects, who saw the same film; or an .npy file of each unit's"
        )
        return Section(title, note=note)
    names = ("pearson_V", "ceiling_V", "normalised_V")
    pearson_V, ceiling_V, normalised_V = (_joined(evaluation, name) for name in names)
    if not np.isfinite(normalised_V).any():
        return Section(title, note="The ceiling of every unit is 0 or within noise")
    caption = (
        f"r against the noise ceiling, by {evaluation.ceiling}. Left: density of the units of all "
        "subjects, pale where few and dark where many; on the dashed line a unit is predicted as "
        "well as its noise allows. Right: r / ceiling of units whose ceiling is beyond noise; the "
        "outermost bars hold what lies farther out."
    )
    figure = ceiling_figure(pearson_V, ceiling_V, normalised_V)
    return Section(title, [Picture.of("ceiling", figure, caption)])


def _shared_ceiling(evaluation: Evaluation) -> Section:
    names = ("pearson_V", "shared_low_V", "shared_high_V")
    caption = (
        f"r against the shared ceiling, by {evaluation.ceiling}: r of a subject's BOLD with the "
        "mean of the others' (left: a lower bound) and of all (right: an upper). Density of the "
        "units of all subjects, pale where few and dark where many. It bounds what subjects share, "
        "not what a subject's own head may reach: units may lie above the dashed line."
    )
    figure = shared_ceiling_figure(*(_joined(evaluation, name) for name in names))
    return Section("Shared ceiling", [Picture.of("ceiling", figure, caption)])


def _ridge(evaluation: Evaluation) -> Section:
    title = "Beside ridge"
    baseline = evaluation.baseline
    if baseline is None:
        kind = evaluation.opened.checkpoint.record.config["model"]["kind"]
        own = "This run is ridge itself" if kind == "ridge" else "Ridge was left out: --ridge true"
        return Section(title, note=own)
    test = baseline.beside
    ridge_V = np.concatenate([baseline.pearson_V[name] for name in evaluation.subjects])
    pair = _joined(evaluation, "pearson_V"), ridge_V
    figure = paired_difference(*pair, test, evaluation.name, baseline.name)
    caption = (
        f"{evaluation.name} beside banded ridge ({baseline.name}), on the same parts, units and "
        "TRs. Left: r of each unit under both; above the line the run is better. Middle: the "
        "difference, unit by unit; line: that of the mean r, in which subjects with units of their "
        f"own count alike. Right: this mean difference, {test.difference:+.4f} (line; "
        f"dashed: with the other sign; bar: its 95 % interval, {test.low:+.4f} to "
        f"{test.high:+.4f}), among those that chance makes, given how long errors last."
    )
    return Section(title, [Picture.of("ridge", figure, caption)])


def _partition(evaluation: Evaluation) -> Section:
    title = "Which part carries it"
    partition = evaluation.partition
    if partition is None:
        return Section(
            title, note="It was not asked for: --partition product, subsets, retrained or permuted"
        )
    caption = (
        f"Share of each part of the stimulus in R2 on test TRs ({partition.how}): mean over all "
        f"units (dot, and number), and 5 to 95 % of them (bar). By {partition.words}."
    )
    pictures = [Picture.of("partition", partition_figure(partition.shares, partition.how), caption)]
    alone = [of for of in partition.means if len(of) == 1][:MOST_ROWS]

    def means(names: Sequence[str], space: Space) -> dict[str, NDArray]:
        return {
            in_words(of, partition.how): nanmean(
                [
                    evaluation.subjects[name].placed(partition.shares[name][of], space.n_units)
                    for name in names
                    if name in partition.shares
                ]
            )
            for of in alone
        }

    caption = (
        "Where each part carries it: mean over subjects of its share in R2, drawn as above; pale "
        "is 0 or less."
    )
    return Section(
        title,
        [*pictures, *_in_brains(evaluation, "partition_map", means, "R2 on test TRs", caption)],
    )


def _in_brains(
    evaluation: Evaluation,
    name: str,
    maps_of: Callable[[Sequence[str], Space], dict[str, NDArray]],
    label: str,
    caption: str,
    from_zero: bool = True,
) -> list[Picture]:
    """Return brains of each space that can be drawn in any, of the maps of its subjects."""
    pictures: list[Picture] = []
    for space, subjects in evaluation.opened.subjects_by_space():
        maps_V = maps_of(subjects, space)
        for figure in brains(maps_V, space, label, from_zero) if maps_V else []:
            pictures.append(Picture.of(f"{name}{len(pictures) or ''}", figure, caption))
    return pictures


def _responses(evaluation: Evaluation) -> Section:
    title = "Learned responses"
    responses = evaluation.responses
    if not responses:
        note = "None to read: --model.memory hrf with a head that is linear or low_rank learns them"
        return Section(title, note=note)
    shown = {name: of.q_V <= Q for name, of in evaluation.subjects.items()}
    if not any(each.any() for each in shown.values()):
        return Section(title, note=f"No unit is predicted beyond chance (q <= {Q:g})")
    fold = ", in the first fold" if len(evaluation.folds) > 1 else ""
    share = np.concatenate([of.share_V[shown[name]] for name, of in responses.items()])
    caption = (
        f"Haemodynamic responses that the model has learned{fold}, of the {len(share):,} units "
        f"that it predicts beyond chance (q <= {Q:g}). Left: mean response of each third, "
        "by when they peak (bands: 10 to 90 % of them), beside the canonical one that peaks at "
        "5 s (dashed). A unit's response is the one course in time that explains most of its "
        f"weights, {share.mean():.0%} of their squares on average. Right: when responses peak."
    )
    pictures = [Picture.of("responses", response_figure(responses, shown), caption)]

    def peaks(names: Sequence[str], space: Space) -> dict[str, NDArray]:
        return {
            f"subject {name}": evaluation.subjects[name].placed(
                np.where(shown[name], responses[name].peak_V, np.nan), space.n_units
            )
            for name in [name for name in names if name in shown and shown[name].any()][:MOST_ROWS]
        }

    caption = (
        "When the responses of these units peak, drawn as above; in a glass brain, the latest "
        "along each line of sight."
    )
    maps = _in_brains(
        evaluation, "responses_map", peaks, "time to peak (s)", caption, from_zero=False
    )
    return Section(title, [*pictures, *maps])


def _courses(evaluation: Evaluation) -> Section:
    courses = evaluation.courses
    tr_seconds = evaluation.opened.data.dataset.manifest.tr_seconds
    names = [
        f"unit {evaluation.subjects[each.subject].units_V[each.unit]:,} of subject {each.subject}, "
        f"{each.stimulus}"
        for each in courses
    ]
    many = max(len(each.tr_T) for each in courses) > MOST_TRS
    first = f", its first {MOST_TRS} test TRs" if many else ""
    caption = (
        f"Prediction (blue) over BOLD (grey) of the best, the median and the worst unit of all "
        f"subjects by r, in the subject's scan of the most test TRs, whose film is named{first}. "
        "Both are z-scored over the scan's test TRs, as r takes them: how large a prediction is "
        "does not count. r is the mean over the subject's scans."
    )
    figure = courses_figure(courses, names, tr_seconds)
    return Section("Time courses", [Picture.of("time_courses", figure, caption)])


def _learning(evaluation: Evaluation, history: list[dict[str, float]]) -> Section:
    title = "Learning"
    if len(history) < 2:
        return Section(title, note="No learning curves: the model was fitted at once")
    record = evaluation.opened.checkpoint.record
    fold = " of the first fold" if len(evaluation.folds) > 1 else ""
    figure = learning_curves(epoch_curves(history), chosen=record.position.epoch)
    caption = (
        f"Learning curves{fold}: loss of training and validation TRs (left), and r on "
        f"validation TRs (right), which chose among epochs; dotted: the chosen epoch, "
        f"{record.position.epoch}, by {record.chosen_by.label}. Test TRs are judged "
        "once, for that epoch."
    )
    return Section(title, [Picture.of("learning_curves", figure, caption)])


def _split(evaluation: Evaluation) -> Section:
    data, folds = evaluation.opened.data, evaluation.folds
    seen = {scan.stimulus for scan in data.scans}
    films = {name: n_trs for name, n_trs in data.dataset.bold_trs.items() if name in seen}
    splits = {f"fold {number}": fold.data.split for number, fold in enumerate(folds, 1)}
    splits = splits if len(folds) > 1 else {"": data.split}
    figure = split_figure(splits, films, data.dataset.manifest.tr_seconds)
    more = (
        f" The first {MOST_LINES} lines are shown." if len(films) * len(folds) > MOST_LINES else ""
    )
    caption = (
        "Which BOLD TRs fitted the model (training), chose its epoch and settings (validation) and "
        f"judge it (test), in time after the onset of the film; white: gaps, in no set.{more}"
    )
    return Section("Split", [Picture.of("split", figure, caption)])


def _methods(told: dict[str, str]) -> str:
    paragraphs = "".join(
        f"<p><b>{escape(name)}.</b> {escape(text)}</p>" for name, text in told.items()
    )
    return f'<section id="methods"><h2>Methods</h2>{paragraphs}</section>'


def _settings(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td class=cause>{escape(value)}</td></tr>"
        for name, value in settings_of(evaluation).items()
    )
    return (
        "<section><details><summary>All settings of the run</summary>"
        f'<div class="wide"><table><tbody>{rows}</tbody></table></div></details></section>'
    )


def _history(evaluation: Evaluation) -> list[dict[str, float]]:
    """Return the metrics of all epochs; of a checkpoint alone, of those up to it."""
    checkpoint = evaluation.opened.checkpoint
    storage = Storage.at(checkpoint.run_folder)
    return epoch_history(storage, "") or checkpoint.record.position.history


def _joined(evaluation: Evaluation, name: str) -> NDArray[np.float64]:
    """Return an array of all subjects' units, one after another."""
    return np.concatenate([getattr(of, name) for of in evaluation.subjects.values()])
