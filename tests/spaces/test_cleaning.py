"""What is taken out of a scan when it is read: nilearn's smoothing and slow cosines, confounds."""

import numpy as np
import pytest
from nilearn.image import smooth_img
from nilearn.signal import clean
from scan_files import FMRIPREP_SCAN, FMRIPREP_TABLE, N_TRS, TR_SECONDS, save

import giblet_ray.spaces.volume as volume
from giblet_ray.spaces.scan import ScanOptions, read_bold
from giblet_ray.spaces.usable import BadUnits, count_bad_units


def residual(bold, regressors):
    """Least squares with an intercept, and the mean put back."""
    design = np.column_stack([np.ones(len(bold)), regressors])
    weights = np.linalg.lstsq(design, bold, rcond=None)[0]
    return bold - design @ weights + bold.mean(axis=0)


def cosines(n_trs, tr_seconds, longest_seconds):
    """Cosines of half a period over the scan, one, one and a half ..."""
    n_slow = int(2 * n_trs * tr_seconds / longest_seconds)
    return np.cos(np.pi / n_trs * np.outer(np.arange(n_trs) + 0.5, np.arange(1, n_slow + 1)))


def test_smoothing_is_nilearns(scan, inside, mask, monkeypatch):
    monkeypatch.setattr(volume, "_BLOCK_BYTES", 4 * 7 * 5 * 4 * 5)
    options = ScanOptions(smoothing_fwhm_mm=5)
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    expected = smooth_img(scan, 5).get_fdata()[inside].T
    np.testing.assert_allclose(bold, expected, rtol=1e-5)


@pytest.mark.parametrize("crop", [0, 4])
def test_confounds_are_regressed_out_and_the_mean_kept(
    scan, volumes, inside, mask, confounds, crop
):
    options = ScanOptions(
        confounds=("trans_x", "framewise_displacement"), volumes=(crop, N_TRS - crop)
    )
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    regressors = confounds[:, [0, 2]]
    regressors[0, 1] = regressors[1, 1]  # for the table's "n/a"
    kept = slice(crop, N_TRS - crop)
    raw = volumes[inside].T[kept].astype(np.float64)
    np.testing.assert_allclose(bold, residual(raw, regressors[kept]), rtol=1e-6)
    np.testing.assert_allclose(bold.mean(0), raw.mean(0), rtol=1e-6)


@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize("names", [(), ("rot_y",)])
def test_high_pass_removes_slow_cosines_and_keeps_the_mean(
    scan, volumes, inside, mask, confounds, names, crop
):
    options = ScanOptions(high_pass_seconds=11, confounds=names, volumes=(crop, N_TRS - crop))
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    kept = slice(crop, N_TRS - crop)
    slow = cosines(N_TRS - 2 * crop, TR_SECONDS, 11)
    assert slow.shape[1] == (4 if crop else 6)
    regressors = np.column_stack([slow, *([confounds[kept, 1]] if names else [])])
    expected = residual(volumes[inside].T[kept].astype(np.float64), regressors)
    np.testing.assert_allclose(bold, expected, rtol=1e-6)


@pytest.mark.parametrize("tr_seconds", [0.72, 1.5, 2.0])
def test_high_pass_is_nilearns(tmp_path, tr_seconds):
    draw = np.random.default_rng(0)
    bold = (1000 + draw.standard_normal((300, 6)).cumsum(axis=0)).astype(np.float32)
    np.save(tmp_path / "scan.npy", bold)
    options = ScanOptions(high_pass_seconds=128)
    found = read_bold(tmp_path / "scan.npy", tr_seconds=tr_seconds, options=options)
    kept = {"detrend": False, "standardize": None, "standardize_confounds": False}
    expected = clean(bold, filter="cosine", high_pass=1 / 128, t_r=tr_seconds, **kept)
    np.testing.assert_allclose(found - bold.mean(0), expected - expected.mean(0), atol=1e-3)
    assert (found.std(0) < 0.7 * bold.std(0)).all()


def test_scan_shorter_than_half_the_period_is_left_as_it_is(scan, volumes, inside, mask):
    options = ScanOptions(high_pass_seconds=128)
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    np.testing.assert_array_equal(bold, volumes[inside].T)


def test_voxel_is_filtered_at_its_own_finite_trs_and_none_of_too_few(tmp_path):
    """A voxel with a NaN where nothing trains or judges is used as the others are."""
    draw = np.random.default_rng(1)
    raw = (1000 + 5 * draw.standard_normal((40, 5)).cumsum(axis=0)).astype(np.float32)
    raw[7, 1] = raw[[3, 30], 2] = np.inf
    raw[5:, 3] = np.nan
    np.save(tmp_path / "scan.npy", raw)
    options = ScanOptions(high_pass_seconds=30)
    bold = read_bold(tmp_path / "scan.npy", tr_seconds=TR_SECONDS, options=options)
    slow = cosines(40, TR_SECONDS, 30)
    for voxel in (0, 1, 2, 4):
        finite = np.isfinite(raw[:, voxel])
        expected = residual(raw[finite, voxel].astype(np.float64), slow[finite])
        np.testing.assert_allclose(bold[finite, voxel], expected, rtol=1e-6)
        assert not np.isfinite(bold[~finite, voxel]).any()
    assert np.isnan(bold[:, 3]).all()


@pytest.mark.parametrize("where", ["beside", "folder", "file", "old name"])
def test_confounds_table_is_found_as_fmriprep_names_it(tmp_path, scan, mask, confounds, where):
    options = ScanOptions(confounds=("trans_x",))
    expected = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    table, given = tmp_path / FMRIPREP_TABLE, None
    if where == "folder":
        given = tmp_path / "tables"
        given.mkdir()
        table.rename(given / table.name)
    elif where == "file":
        given = table.rename(tmp_path / "other.tsv")
    elif where == "old name":
        table.rename(tmp_path / FMRIPREP_TABLE.replace("timeseries", "regressors"))
    options = ScanOptions(confounds=("trans_x",), confounds_path=given and str(given))
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    np.testing.assert_array_equal(bold, expected)


@pytest.mark.parametrize(
    "options",
    [
        ScanOptions(),
        ScanOptions(smoothing_fwhm_mm=4),
        ScanOptions(high_pass_seconds=30, confounds=("trans_x",)),
    ],
)
def test_bad_voxels_are_counted_and_stay(tmp_path, volumes, mask, inside, confounds, options):
    if options.smoothing_fwhm_mm is None:
        volumes[inside.nonzero()[0][5], inside.nonzero()[1][5], inside.nonzero()[2][5]] = 1000.1
    first, second = np.argwhere(inside)[[0, 9]]
    volumes[(*first, 4)] = np.nan
    volumes[(*second, slice(None))] = np.inf
    scan = save(tmp_path / FMRIPREP_SCAN, volumes)
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=options)
    assert np.isnan(bold[4, 0])
    assert (~np.isfinite(bold)).sum() == 1 + N_TRS
    n_constant = 1 if options.smoothing_fwhm_mm is None else 0
    assert count_bad_units([bold]) == BadUnits(nan=2, constant=n_constant)
    if n_constant:
        np.testing.assert_array_equal(bold[:, 5], np.float32(1000.1))


@pytest.mark.parametrize(
    "options", [{"high_pass_seconds": 20}, {"confounds": ("trans_x", "rot_y")}]
)
def test_volume_without_numbers_shapes_no_cleaning(
    tmp_path, volumes, inside, mask, confounds, options
):
    volumes[..., [4, 17]] = np.nan
    scan = save(tmp_path / FMRIPREP_SCAN, volumes)
    bold = read_bold(scan, mask, tr_seconds=TR_SECONDS, options=ScanOptions(**options))
    kept = np.setdiff1d(np.arange(N_TRS), [4, 17])
    slow = cosines(N_TRS, TR_SECONDS, 20)
    regressors = confounds[:, :2] if "confounds" in options else slow
    raw = volumes[inside].T[kept].astype(np.float64)
    expected = residual(raw, regressors[kept])
    np.testing.assert_allclose(bold[kept], expected, rtol=1e-5, atol=1e-3)
    assert np.isnan(bold[[4, 17]]).all()
