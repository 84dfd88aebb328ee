"""Ridge as a predictor, beside himalaya run by hand on explicit delayed arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ridge_arrays import N_TRS, SCANS, TRAINED, UNITS, ArrayTrs, make_ridge, make_trs

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.models.folds import gapped_folds
from giblet_ray.models.ridge.model import Ridge
from giblet_ray.models.training_rows import TrainingRows

DELAYS = range(5)
"""0 to 6 s at a TR of 1.5 s."""


def silent(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module", params=["ridge", "banded"])
def fitted(request: pytest.FixtureRequest) -> tuple[Ridge, ArrayTrs]:
    model = make_ridge(solver=request.param)
    training = make_trs(model.context_trs)
    model.fit(training, silent)
    return model, training


def vectors_of(model: Ridge, training: ArrayTrs, film: str) -> list[np.ndarray]:
    """Return the vectors (TRs, F) of each part of a film."""
    parts = training.films[film].items()
    return [model.vectors[part](torch.from_numpy(rows)).numpy() for part, rows in parts]


def explicit(model: Ridge, training: ArrayTrs, scan: ScanKey) -> list[np.ndarray]:
    """Return (TRs, delays * F) of each part, by a copy per delay."""
    found = []
    for film_TF in vectors_of(model, training, scan.stimulus):
        copies = [np.pad(film_TF, ((delay, 0), (0, 0)))[: len(film_TF)] for delay in DELAYS]
        found.append(np.concatenate(copies, axis=1))
    return found


def training_trs(film: str) -> np.ndarray:
    return np.concatenate([np.arange(start, stop) for start, stop in TRAINED[film]])


def by_hand(model: Ridge, training: ArrayTrs, scans: list[ScanKey]) -> np.ndarray:
    """Return the weights (delays * F of all parts, units) that himalaya finds, in one call."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    scans = sorted(scans, key=lambda scan: scan.stimulus)
    films = [np.full(len(training_trs(s.stimulus)), s.stimulus == "b", int) for s in scans]
    trs = [training_trs(scan.stimulus) for scan in scans]
    parts = zip(*(explicit(model, training, scan) for scan in scans), strict=True)
    rows = [
        np.concatenate([x[tr] for x, tr in zip(part, trs, strict=True)]).astype("f4")
        for part in parts
    ]
    bold = np.concatenate([training.bold[s][tr] for s, tr in zip(scans, trs, strict=True)])
    settings = model._settings
    set_backend("numpy")
    _, weights, _ = solve_multiple_kernel_ridge_random_search(
        np.stack([X @ X.T for X in rows]),
        bold,
        n_iter=settings.n_iter if settings.solver == "banded" else np.full((1, 2), 0.5),
        alphas=np.logspace(1, 4, 4),
        cv=gapped_folds(np.concatenate(films), np.concatenate(trs), 3, 2),
        return_weights="primal",
        Xs=rows,
        random_state=0,
        progress_bar=False,
    )
    return weights


@pytest.mark.parametrize("subject", ["01", "02", "03"])
def test_weights_are_those_that_himalaya_finds_on_explicit_delayed_arrays(
    fitted: tuple[Ridge, ArrayTrs], subject: str
) -> None:
    model, training = fitted
    wanted_KV = by_hand(model, training, [s for s in SCANS if s.subject == subject])
    found_VLF = model.weights[["01", "02", "03"].index(subject)].numpy()
    of_parts = np.split(found_VLF, [6], axis=2)
    found_KV = np.concatenate([part.reshape(len(part), -1) for part in of_parts], axis=1).T
    assert found_KV.shape == (len(DELAYS) * 9, UNITS[subject])
    assert np.abs(wanted_KV).max() > 0.05
    np.testing.assert_allclose(found_KV, wanted_KV, atol=1e-5)


def test_prediction_is_the_explicit_delayed_arrays_times_the_weights(
    fitted: tuple[Ridge, ArrayTrs],
) -> None:
    model, training = fitted
    scan = ScanKey("03", "b")
    values = {p: torch.from_numpy(x)[None] for p, x in training.films["b"].items()}
    before = model.context_trs
    padded = {
        p: torch.nn.functional.pad(x, (0, 0, before, 0), value=9.0) for p, x in values.items()
    }
    exists = torch.arange(-before, N_TRS["b"])[None] >= 0
    found = model(padded, exists, torch.tensor([2]))[2][0].numpy()
    parts = [x.reshape(len(x), 5, -1) for x in explicit(model, training, scan)]
    rows_TLF = np.concatenate(parts, axis=2)
    wanted = np.einsum("tlf,vlf->tv", rows_TLF, model.weights[2].numpy())
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_windows_of_several_subjects_are_told_apart(fitted: tuple[Ridge, ArrayTrs]) -> None:
    model, training = fitted
    window = {p: torch.from_numpy(x[:9]) for p, x in training.films["a"].items()}
    three = {p: torch.stack([x, x.flip(0), x]) for p, x in window.items()}
    exists = torch.ones(3, 9, dtype=torch.bool)
    found = model(three, exists, torch.tensor([1, 0, 1]))
    assert {index: tuple(bold.shape) for index, bold in found.items()} == {
        0: (1, 5, 5),
        1: (2, 5, 4),
    }
    torch.testing.assert_close(found[1][0], found[1][1])  # the kernel of a row differs by machine
    alone = model({p: x.flip(0)[None] for p, x in window.items()}, exists[:1], torch.tensor([0]))
    torch.testing.assert_close(found[0], alone[0])


@pytest.mark.parametrize("solver", ["ridge", "banded"])
def test_values_at_other_trs_change_nothing(solver: str) -> None:
    states = []
    for changed in (False, True):
        model = make_ridge(solver=solver)
        training = make_trs(model.context_trs)
        if changed:
            for film, n in N_TRS.items():
                others = np.setdiff1d(np.arange(n), training_trs(film))
                for scan in SCANS:
                    if scan.stimulus == film:
                        training.bold[scan][others] += 1e3
                seen = {tr - delay for tr in training_trs(film) for delay in DELAYS}
                unseen = np.setdiff1d(np.arange(n), [tr for tr in seen if tr >= 0])
                assert film == "b" or len(unseen)
                for rows in training.films[film].values():
                    rows[unseen] += 1e3
        model.fit(training, silent)
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_means_and_components_know_nothing_of_the_context_of_training_trs() -> None:
    model = make_ridge(components={"clip": 4})
    training = make_trs(model.context_trs)
    model.fit(training, silent)
    rows = [training.films[film]["clip"][training_trs(film)] for film in N_TRS]
    wanted = np.concatenate(rows).mean(0)
    np.testing.assert_allclose(model.vectors["clip"].mean_D, wanted, atol=1e-6)


def test_alphas_are_chosen_on_trs_that_were_not_fitted_on_at_another_phase() -> None:
    model = make_ridge()
    training = make_trs(model.context_trs)
    training.windows.phase[training.windows.scan == 1] = 1  # film a again, shifted
    rows = TrainingRows(training, list(UNITS), [0, 1, 2], model.context_trs)
    _, (target, *_) = rows.read(model._vectors, list(UNITS.values()))
    for fitted, predicted in model._folds(target):
        seen, judged = (
            {*zip(target.stimulus_N[at].tolist(), target.tr_N[at].tolist(), strict=True)}
            for at in (fitted, predicted)
        )
        near = {(film, tr + gap) for film, tr in judged for gap in range(-2, 3)}
        assert seen
        assert judged
        assert not seen & near


def test_a_film_takes_as_many_rows_as_it_has_trs_however_long_another_is() -> None:
    model = make_ridge()
    training = make_trs(model.context_trs)
    rows = TrainingRows(training, list(UNITS), [0, 1, 2], model.context_trs)
    films_GF, _ = rows.read(model._vectors, list(UNITS.values()))
    assert len(films_GF) == sum(model.context_trs + n for n in N_TRS.values())


def test_units_that_do_not_count_have_weights_of_0() -> None:
    model = make_ridge()
    training = make_trs(model.context_trs)
    for bold in training.bold.values():
        bold[:, 1] = 0
    model.fit(training, silent)
    for weights in model.weights:
        assert not weights[1].any()
        assert weights[0].any()


def test_one_fit_for_all_subjects_is_a_fit_to_all_their_scans() -> None:
    units = dict.fromkeys(UNITS, 3)
    model = make_ridge(subjects="shared", units=units)
    training = make_trs(model.context_trs)
    for scan in SCANS:
        training.bold[scan] = training.bold[scan][:, :3]
    model.fit(training, silent)
    assert not model.tells_subjects_apart
    wanted_KV = by_hand(model, training, list(SCANS))
    of_parts = np.split(model.weights[0].numpy(), [6], axis=2)
    found_KV = np.concatenate([part.reshape(3, -1) for part in of_parts], axis=1).T
    np.testing.assert_allclose(found_KV, wanted_KV, atol=1e-5)


def test_one_fit_for_all_subjects_leaves_out_those_in_which_a_unit_does_not_count() -> None:
    units = dict.fromkeys(UNITS, 3)
    model = make_ridge(subjects="shared", units=units)
    training = make_trs(model.context_trs)
    for scan in SCANS:
        training.bold[scan] = training.bold[scan][:, :3]
        training.bold[scan][:, 1] *= scan.subject != "02"
        training.bold[scan][:, 2] = 0
    model.fit(training, silent)
    others = [scan for scan in SCANS if scan.subject != "02"]
    of_parts = np.split(model.weights[0].numpy(), [6], axis=2)
    found_KV = np.concatenate([part.reshape(3, -1) for part in of_parts], axis=1).T
    wanted_KV = by_hand(model, training, list(SCANS))[:, 0]
    np.testing.assert_allclose(found_KV[:, 0], wanted_KV, atol=1e-5)
    wanted_KV = by_hand(model, training, others)[:, 1]
    np.testing.assert_allclose(found_KV[:, 1], wanted_KV, atol=1e-5)
    assert not found_KV[:, 2].any()


@pytest.mark.parametrize(
    ("folds", "seconds"), [(2, 200.0), (200, 0.0)], ids=["wide gaps", "more folds than TRs"]
)
def test_folds_that_leave_nothing_are_refused(folds: int, seconds: float) -> None:
    model = make_ridge(folds=folds, fold_gap_seconds=seconds)
    with pytest.raises(InputError, match=rf"--model.folds {folds}: of 91 training TRs"):
        model.fit(make_trs(model.context_trs), silent)


def test_chosen_alphas_and_weightings_are_kept() -> None:
    model = make_ridge()
    model.fit(make_trs(model.context_trs), silent)
    for index, n in enumerate(UNITS.values()):
        assert set(model.get_buffer(f"alpha_{index}").log10().round().tolist()) <= {1, 2, 3, 4}
        bands = model.get_buffer(f"bands_{index}")
        assert bands.shape == (n, 2)
        torch.testing.assert_close(bands.sum(1), torch.ones(n))


@pytest.fixture(autouse=True)
def _backend_as_it_was() -> Iterator[None]:
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    yield
    set_backend(before)


def test_himalayas_backend_is_left_as_it_was() -> None:
    from himalaya.backend import get_backend, set_backend

    set_backend("numpy")
    model = make_ridge()
    model.fit(make_trs(model.context_trs), silent)
    assert get_backend().name == "numpy"
