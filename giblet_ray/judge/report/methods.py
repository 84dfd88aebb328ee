"""What a paper must say of how a run's numbers came about: sentences with every number in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.config import HRF_SECONDS, DataConfig
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.splits import SETS, Split, response_trs
from giblet_ray.evaluation.score import Score
from giblet_ray.judge.evaluation import Baseline, Evaluation, Q
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.vectors import AS_IT_IS, COMPONENTS
from giblet_ray.settings import flat_settings
from giblet_ray.spaces.config import high_pass_in_words

_HIGH_PASS = "high_pass_seconds"


@dataclass(frozen=True)
class Code:
    """Which code trained and judged."""

    trained: str
    """Commit that trained; empty where unknown."""
    judged: str
    """Commit that judges; empty where unknown."""
    versions: Mapping[str, str]
    """Of the packages that judge."""
    recorded: str
    """The MLflow run, in words."""


def methods(
    evaluation: Evaluation, job: EvaluateJob, history: list[dict[str, float]], code: Code
) -> dict[str, str]:
    """Return the methods as paragraphs by their headings.

    Parameters
    ----------
    evaluation, job, code
        As :func:`giblet_ray.judge.report.report.make_report` takes them.
    history : list of dict
        Metrics of every epoch that was trained.
    """
    opened = evaluation.opened
    n_folds = len(evaluation.folds)
    told = {
        "Data": _data(opened),
        "Preparation": _preparation(opened.data.dataset.manifest),
        "Split": _split(opened),
        "Model": _model(opened, history),
        "Scores": _scores(evaluation),
        "Chance": _chance(evaluation),
        "Interval": _interval(evaluation, job),
    }
    if evaluation.ceiling:
        told["Noise ceiling"] = _ceiling(evaluation, job)
    if evaluation.baseline is not None:
        told["Baseline"] = _baseline(evaluation.baseline, job)
    if evaluation.partition is not None:
        told["Partition"] = f"By {evaluation.partition.words}."
    if n_folds > 1:
        told["Folds"] = (
            f"{n_folds} runs, in each of which other TRs are test, were judged as one: each test "
            "TR is predicted by the run that has not seen it, a scan's BOLD is z-scored over all "
            "of them. Split and model above are those of the first."
        )
    return told | {"Code": _code(evaluation, job, code)}


def _data(opened: OpenedRun) -> str:
    manifest, data = opened.data.dataset.manifest, opened.data
    record = opened.checkpoint.record
    films = [stimulus for stimulus in manifest.stimuli if stimulus.name in
             {scan.stimulus for scan in data.scans}]  # fmt: skip
    trs = sum(film.n_trs for film in films)
    subjects = data.selection.subjects
    masked = sum(int((~opened.valid(subject)).sum()) for subject in subjects)
    spaces = [record.dataset.spaces[subject] for subject in subjects]
    units = data.units_in_words
    if record.units:
        units += f" of {_few([f'{n:,}' for n in {each.n_units: 0 for each in spaces}])}"
    kinds = _few([*{each.kind: 0 for each in spaces}])
    parts = "; ".join(
        f"{name} ({part.value.dtype}, {' x '.join(map(str, part.value.shape))} per TR): "
        f"{_listed(part.made_with)}" + (f", settings {settings}" if
        (settings := _listed(part.settings)) else "")
        for name, part in manifest.parts.items()
        if name in data.selection.parts
    )  # fmt: skip
    parts += "".join(f"; {_few(films)} without {part}" for part, films in data.lacking.items())
    return (
        f"{_count(len(subjects), 'subject')} ({_few(subjects)}) watched "
        f"{_count(len(films), 'film')} ({_few([film.name for film in films])}) of {trs:,} TRs of "
        f"{manifest.tr_seconds:g} s ({trs * manifest.tr_seconds / 60:.1f} min) in "
        f"{_count(len(data.scans), 'scan')}. {units} units of each subject were "
        f"predicted (space: {kinds}); {masked:,} of them, those of all "
        "subjects together, took no part in their subject, since their BOLD was constant or not "
        f"finite. {data.n_lacking:,} TRs of all scans were masked "
        f"or not measured. Parts of the stimulus that the model reads: {parts}. Data set checksum "
        f"{manifest.checksum}."
    )


def _preparation(manifest: Manifest) -> str:
    bold = manifest.provenance.get("bold")
    if not bold:
        return "The manifest does not say how BOLD was prepared."
    settings = bold["settings"]
    whole = ", ".join(bold.get("fitted_to_whole_scans", ())) or "nothing"
    confounds = bold.get("confounds") or {}
    return (
        f"BOLD, as the manifest has it: high-pass {high_pass_in_words(settings.get(_HIGH_PASS))}; "
        f"{_listed(settings, without=(_HIGH_PASS,))}; tables of confounds for "
        f"{_count(len(confounds), 'scan')}; made with {_listed(bold['libraries'])}. Fitted to "
        f"whole scans, test TRs included, and without the stimulus: {whole}."
    )


def _split(opened: OpenedRun) -> str:
    split, tr_seconds = opened.data.split, opened.data.dataset.manifest.tr_seconds
    data = DataConfig.model_validate(opened.checkpoint.record.config["data"])
    n = {name: sum(map(len, split.spans(name))) for name in SETS}
    settings = data.split
    how = {
        "blocks": f"contiguous blocks of every film ({_blocks(split)}), validation "
        f"{settings.val_fraction:.0%} and test {settings.test_fraction:.0%} of what gaps leave",
        "stimuli": f"whole films: validation {_few(settings.val_stimuli)}, test "
        f"{_few(settings.test_stimuli)}",
        "repeats": f"whole repeats: validation {_few(settings.val_repeats)}, test "
        f"{_few(settings.test_repeats)}, of films that also trained",
    }[settings.kind]
    folds = f", fold {settings.fold} of {settings.folds}" if settings.folds > 1 else ""
    same = (
        f"; intervals that show the same ({settings.same}) are in one set" if settings.same else ""
    )
    return (
        f"In BOLD TRs, the same for all subjects: {n['train']:,} training, {n['val']:,} validation "
        f"and {n['test']:,} test TRs, {split.n_lost:,} lost to gaps of {settings.gap_seconds:g} s "
        f"between the sets; {how}{folds}{same}. BOLD was paired with the stimulus "
        f"{data.lag_seconds:g} s earlier ({data.lag_trs(tr_seconds)} TRs), the model saw "
        f"{opened.data.context_trs} TRs more before it. BOLD was z-scored unit by unit: a scan "
        "with training TRs by the mean and SD of those, one that is held out whole by its own. "
        "Training TRs fitted the model, validation TRs chose among epochs and settings, test TRs "
        "did neither."
    )


def _model(opened: OpenedRun, history: list[dict[str, float]]) -> str:
    record = opened.checkpoint.record
    config = record.config
    model = config["model"]
    settings = record.model_settings(opened.packages)
    if settings.fitted:
        return _fitted(model)
    n = n_parameters(opened, settings)
    optimizer, train = config["optimizer"], config["train"]
    chosen = Score(train["score"])
    loss = _listed(config["loss"])
    score = "" if record.score is None else f" = {record.score:.4f}"
    decay = optimizer.get("head_weight_decay")
    of_heads = "" if decay is None else f" ({decay:g} of heads)"
    return (
        f"{model['kind']}, {n:,} parameters ({_listed(model, without=('kind',))}). Loss: {loss}. "
        f"AdamW: the learning rate rises linearly to {optimizer['lr']:g} in the first "
        f"{optimizer['warmup_fraction']:.0%} of all steps, then falls along a cosine to "
        f"{optimizer['min_lr_fraction']:.0%} of that; "
        f"weight decay {optimizer['weight_decay']:g}{of_heads}, "
        f"betas {_shown(optimizer['betas'])}, gradients clipped to a norm of "
        f"{optimizer['max_grad_norm']:g}. {len(history):,} of {train['epochs']:,} epochs in "
        f"batches of {_count(train['batch_trs'], 'BOLD TR')} in windows of "
        f"{_count(opened.data.window, 'TR')}, "
        f"arithmetic {train['precision']}, seed {train['seed']}. The epoch was chosen by "
        f"{chosen.label}: epoch {record.position.epoch}{score}."
    )


def _fitted(model: Mapping[str, Any]) -> str:
    if model["kind"] == "stack":
        members = ", ".join(f"{name} ({m['carries']:.2f})" for name, m in model["members"].items())
        return (
            f"A stack of finished runs, with their mean weights: {members}. Each unit's prediction "
            "is a convex combination of theirs, by non-negative least squares on validation TRs; "
            "weights are shrunk to those that fit all units by as much as predicts best between "
            f"stretches of validation TRs, 0 (not) to 1: {_listed(model['shrinkage'])}."
        )
    if model["kind"] != "ridge":
        return f"{model['kind']}, fitted at once ({_listed(model, without=('kind',))})."
    first, last = model["delays_seconds"]
    low, high = model["alphas"]
    banded = (
        f"Banded ridge: each unit weighs the parts by the best of {model['n_iter']} weightings, "
        f"drawn at random with seed {model['seed']}"
        if model["solver"] == "banded"
        else "Ridge: all parts are weighed alike"
    )
    components = _listed(model["components"]) or (
        f"{COMPONENTS['image']} of pictures, {COMPONENTS['codes']} of all other parts"
    )
    codes = {
        "counts": "codes by how often each occurs in a TR",
        "codebooks": "codes by the mean over a TR of EnCodec's codebook vectors of them",
    }[model["codes"]]
    return (
        f"{banded}; finite impulse response of one weight per TR and feature at delays of "
        f"{first:g} to {last:g} s; principal components, fitted on training TRs: {components} "
        f"(vectors of at most {AS_IT_IS} numbers are taken as they are), {codes}; "
        f"{model['n_alphas']} alphas from {low:g} to {high:g}, one per unit, chosen by "
        f"{model['folds']} contiguous folds of the training TRs with "
        f"{model['fold_gap_seconds']:g} s left out on either side; subjects: {model['subjects']}. "
        "Solved with himalaya (Dupré la Tour et al. 2022)."
    )


def n_parameters(opened: OpenedRun, settings: ModelSettings) -> int:
    """Return how many numbers a model learns, without making it."""
    shapes = Shapes.of_record(opened.checkpoint.record.dataset)
    with unfilled():
        model = build_predictor(settings, shapes, opened.packages)
    return sum(parameter.numel() for parameter in model.parameters())


def _scores(evaluation: Evaluation) -> str:
    judged, metrics = evaluation.judged, evaluation.judged.metrics
    seen = (
        " Other repeats of these films trained: the scores are of films that were seen."
        if judged.name == "test_seen_film"
        else ""
    )
    subjects = "; ".join(
        f"{name} {scores['pearson_mean']:.4f}" for name, scores in judged.subjects.items()
    )
    order = (
        "over subjects, and over units"
        if evaluation.opened.data.units_are_shared
        else "over units, and over subjects"
    )
    group = ""
    if evaluation.group is not None:
        of = evaluation.group.summary()
        group = (
            f" The mean prediction on the mean BOLD of the subjects who saw the same films has r "
            f"{of['pearson_mean']:.4f} (a group score: no subject's)."
        )
    return (
        f"r is Pearson's correlation of prediction and BOLD over the test TRs of one scan, for one "
        f"unit; then the mean over a subject's scans, {order}, each over what is scored. Mean "
        f"{metrics['pearson_mean']:.4f}, median over units {metrics['pearson_median']:.4f}, 95th "
        f"percentile {metrics['pearson_p95']:.4f}; R2 against the scan's own mean "
        f"{metrics['r2_mean']:.4f}; over {judged.n_trs:,} TRs of all scans together and "
        f"{judged.n_units:,} units. Means of subjects: {subjects}. A constant prediction has r = "
        f"0.{group}{seen} The test TRs have been read {judged.readings:,} "
        f"time{'s' if judged.readings > 1 else ''} for this run."
    )


def _chance(evaluation: Evaluation) -> str:
    null, tr_seconds = evaluation.null, evaluation.opened.data.dataset.manifest.tr_seconds
    least = response_trs(tr_seconds)
    n = null.null_VP.shape[1]
    of_p95 = null.percentile(lambda r: np.percentile(r, 95, axis=0))
    return (
        f"BOLD was shifted circularly within each scan, by {least} TRs ({least * tr_seconds:g} s) "
        f"or more in either direction, alike for all units and subjects, {n:,} times. One-sided p "
        f"of a unit: (1 + shifts with an r as high) / (1 + {n:,}) (Phipson & Smyth 2010), no less "
        f"than {null.smallest_p:.2g}; false discovery rate over a subject's units by Benjamini & "
        f"Hochberg: {evaluation.share_significant:.1%} of units have q <= {Q:g}. By chance the "
        f"mean r is {null.percentile():.4f} or less, and the 95th percentile over units "
        f"{of_p95:.4f} or less, in 95 of 100 shifts."
    )


def _interval(evaluation: Evaluation, job: EvaluateJob) -> str:
    interval = evaluation.interval
    who = (
        "Subjects are drawn first: the interval speaks of other subjects"
        if interval.subjects_are_drawn
        else "Subjects are not drawn: the interval speaks of these alone"
    )
    tr_seconds = evaluation.opened.data.dataset.manifest.tr_seconds
    return (
        f"95 % studentised block bootstrap: {job.resamples:,} resamples of {interval.n_blocks} "
        f"blocks of {interval.block_trs} TRs ({interval.block_trs * tr_seconds:g} s) or more, the "
        f"length that the measured autocorrelation of what TRs add to the mean r asks for, and the "
        f"haemodynamic response ({HRF_SECONDS:g} s) at least; {interval.n_trs:,} film TRs. Units "
        f"are never drawn. {who}."
    )


def _ceiling(evaluation: Evaluation, job: EvaluateJob) -> str:
    assumed = {
        "repeats": "It assumes that the response is the same in each repeat, and noise "
        "independent between repeats",
        "split_half": "It assumes that the response is the same in each repeat, and noise "
        "independent and alike in all",
    }.get(job.ceiling, "It is taken as it is given")
    if evaluation.shared_ceiling is not None:
        low, high = evaluation.shared_ceiling
        return (
            f"Shared ceiling, by {evaluation.ceiling}: r of a subject's BOLD with the mean of the "
            f"others' {low:.4f}, of all {high:.4f}, means over units, then subjects. It assumes "
            "that subjects' responses agree in time and unit, bounds what they share, and divides "
            "nothing."
        )
    share = evaluation.normalised
    return (
        f"By {evaluation.ceiling}. {assumed}. r / ceiling is the mean over units, then subjects, "
        f"of each unit's own ratio, without units whose ceiling is 0 or within noise"
        + (f": {share:.1%}." if share is not None else "; no unit is left.")
    )


def _baseline(baseline: Baseline, job: EvaluateJob) -> str:
    test = baseline.beside
    return (
        f"{_fitted(baseline.model)} Fitted on the same parts, units and training TRs (run "
        f"{baseline.name}), judged on the same test TRs: mean r {baseline.mean.value:.4f}. Paired "
        "difference "
        f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], two-sided p = {test.p:.2g}: "
        f"predictions enter as z-scores, the error of the difference is from the slowest "
        f"{test.n_cosines} cosines of what each of {test.n_trs:,} TRs adds to it, which errors "
        f"of {HRF_SECONDS:g} s and more allow; chance is {job.permutations:,} rotations."
    )


def _code(evaluation: Evaluation, job: EvaluateJob, code: Code) -> str:
    return (
        f"Trained by commit {code.trained or 'that is not recorded'}, judged by "
        f"{code.judged or 'a commit that is not known'}; {_listed(code.versions)}. Seed of shifts, "
        f"resamples and rotations: {job.seed}. Checkpoint {evaluation.judged.checkpoint}, weights' "
        f"checksum {evaluation.judged.weights}. MLflow: {code.recorded}."
    )


def settings_of(evaluation: Evaluation) -> dict[str, str]:
    """Return every setting of the run by its dotted name."""
    config = evaluation.opened.checkpoint.record.config
    return {key: str(value) for key, value in flat_settings(config).items()}


def _blocks(split: Split) -> str:
    films = {span.stimulus for span in split.test}
    return f"{_count(len(split.test), 'test block')} in {_count(len(films), 'film')}"


def _listed(values: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    pairs = flat_settings(values).items()
    return ", ".join(f"{key} {_shown(value)}" for key, value in pairs if key not in without)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _few(names: Iterable[Any]) -> str:
    listed = list(map(str, names))
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
