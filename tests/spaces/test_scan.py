import gzip
import warnings

import h5py
import nibabel
import numpy as np
import pytest
import scipy.fft
from nilearn.image import smooth_img
from nilearn.signal import clean

import giblet_ray.spaces.volume as volume
from giblet_ray.errors import InputError
from giblet_ray.spaces.scan import ScanOptions, read_bold, scan_shape
from giblet_ray.spaces.usable import BadUnits, count_bad_units

TR_SECONDS = 1.5
SHAPE, N_TRS = (7, 5, 4), 23
AFFINE = np.array([[3.0, 0, 0, -9], [0, 3, 0, -6], [0, 0, 3, -3], [0, 0, 0, 1]])
FMRIPREP_SCAN = "sub-01_task-film_run-1_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
FMRIPREP_TABLE = "sub-01_task-film_run-1_desc-confounds_timeseries.tsv"


def save(path, values, affine=AFFINE, tr_seconds=TR_SECONDS, unit="sec", dtype=np.float32):
    image = nibabel.Nifti1Image(np.asarray(values, dtype), affine)
    if image.ndim == 4:
        image.header.set_zooms((3, 3, 3, tr_seconds))
        image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, path)
    return path


@pytest.fixture
def volumes():
    """(X, Y, Z, T), around 1000 as a scanner gives them."""
    draw = np.random.default_rng(7)
    return 1000 + 20 * draw.standard_normal((*SHAPE, N_TRS)).astype(np.float32)


@pytest.fixture
def inside():
    """(X, Y, Z)."""
    return np.random.default_rng(8).random(SHAPE) < 0.6


@pytest.fixture
def mask(tmp_path, inside):
    return save(tmp_path / "mask.nii.gz", inside, dtype=np.uint8)


@pytest.fixture
def scan(tmp_path, volumes):
    return save(tmp_path / FMRIPREP_SCAN, volumes)


@pytest.fixture
def confounds(tmp_path):
    """(T, 3) of the table beside the scan; the last column's first row is "n/a" there."""
    draw = np.random.default_rng(9)
    values = np.stack(
        [draw.standard_normal(N_TRS), np.arange(N_TRS) ** 2 / 9, draw.standard_normal(N_TRS)], 1
    )
    rows = ["trans_x\trot_y\tframewise_displacement"]
    rows += ["\t".join(repr(float(value)) for value in row) for row in values]
    rows[1] = rows[1].rpartition("\t")[0] + "\tn/a"
    (tmp_path / FMRIPREP_TABLE).write_text("\n".join(rows) + "\n")
    return values


def refusal(path, mask=None, tr_seconds=TR_SECONDS, **options):
    with pytest.raises(InputError) as caught:
        read_bold(path, mask, tr_seconds=tr_seconds, options=ScanOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def residual(bold, regressors):
    """Least squares with an intercept, and the mean put back."""
    design = np.column_stack([np.ones(len(bold)), regressors])
    weights = np.linalg.lstsq(design, bold, rcond=None)[0]
    return bold - design @ weights + bold.mean(axis=0)


def cosines(n_trs, tr_seconds, longest_seconds):
    """The slowest columns of scipy's inverse DCT-II, but for the constant."""
    n_slow = int(2 * n_trs * tr_seconds / longest_seconds)
    return scipy.fft.idct(np.eye(n_trs), axis=0)[:, 1 : n_slow + 1]


# ---- reading


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("block_bytes", [2**26, 4 * 7 * 5 * 4 * 5, 1])
def test_nifti_gives_the_masked_voxels_whatever_the_blocks(
    tmp_path, volumes, inside, mask, name, block_bytes, monkeypatch
):
    monkeypatch.setattr(volume, "_BLOCK_BYTES", block_bytes)
    path = save(tmp_path / name, volumes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bold = read_bold(path, mask, tr_seconds=TR_SECONDS)
    assert bold.dtype == np.float32
    np.testing.assert_array_equal(bold, volumes[inside].T)


def test_scaled_integers_are_read_as_the_header_says(tmp_path, volumes, inside, mask):
    image = nibabel.Nifti1Image(volumes, AFFINE)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    bold = read_bold(tmp_path / "scan.nii.gz", mask, tr_seconds=TR_SECONDS)
    np.testing.assert_allclose(bold, volumes[inside].T, atol=0.01)


def test_arrays_are_read_as_they_are(tmp_path, volumes, inside, mask):
    expected = volumes[inside].T
    np.save(tmp_path / "scan.npy", expected.astype(np.float64))
    with h5py.File(tmp_path / "scan.h5", "w") as store:
        store["run/bold"] = expected
        store["affine_values"] = np.arange(16)
    with h5py.File(tmp_path / "two.hdf5", "w") as store:
        store["data"] = expected
        store["affine"] = AFFINE
    for name in (
        "scan.npy",
        "scan.h5",
        "scan.h5::run/bold",
        "scan.h5::/run/bold",
        "two.hdf5::data",
    ):
        bold = read_bold(f"{tmp_path}/{name}", tr_seconds=TR_SECONDS)
        assert bold.dtype == np.float32
        np.testing.assert_array_equal(bold, expected)
    assert read_bold(tmp_path / "scan.npy", mask, tr_seconds=TR_SECONDS).shape == expected.shape


def test_cropping_cuts_trs_from_each_end(tmp_path, scan, volumes, inside, mask):
    np.save(tmp_path / "scan.npy", volumes[inside].T)
    options = ScanOptions(crop_start_trs=3, crop_stop_trs=2)
    for path in (scan, tmp_path / "scan.npy"):
        bold = read_bold(path, mask, tr_seconds=TR_SECONDS, options=options)
        np.testing.assert_array_equal(bold, volumes[inside].T[3:-2])


# ---- cleaning


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
        confounds=("trans_x", "framewise_displacement"), crop_start_trs=crop, crop_stop_trs=crop
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
    options = ScanOptions(
        high_pass_seconds=11, confounds=names, crop_start_trs=crop, crop_stop_trs=crop
    )
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


# ---- refusals


def test_files_that_cannot_be_read_are_refused(tmp_path, scan, volumes, mask):
    assert "no such file" in refusal(tmp_path / "none.nii.gz", mask)
    assert "no such file" in refusal(scan, tmp_path / "none.nii.gz")
    assert "accepted: .nii, .nii.gz, .npy, .h5, .hdf5, .hf5" in refusal(
        mask.rename(tmp_path / "a.mgz")
    )


@pytest.mark.parametrize("kept", [10, 400, 0.5, 0.99])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.npy", "scan.h5"])
def test_truncated_files_are_refused(tmp_path, volumes, mask, name, kept):
    path = tmp_path / name
    if name == "scan.npy":
        np.save(path, volumes[0, 0].T)
    elif name == "scan.h5":
        with h5py.File(path, "w") as store:
            store["bold"] = volumes[0, 0].T
    else:
        save(path, volumes)
    data = path.read_bytes()
    path.write_bytes(data[: kept if kept > 1 else int(kept * len(data))])
    message = refusal(path, mask)
    assert str(path) in message
    assert "not a readable" in message or "truncated or damaged" in message


def test_damaged_gzip_is_refused(tmp_path, volumes, mask):
    path = tmp_path / "scan.nii.gz"
    data = bytearray(save(path, volumes).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(bytes(data))
    assert str(path) in refusal(path, mask)
    path.write_bytes(gzip.compress(b"no image" * 100))
    assert "not a readable NIfTI" in refusal(path, mask)


def test_nifti_that_is_no_scan_is_refused(tmp_path, scan, volumes, mask):
    assert "a NIfTI scan needs a --mask" in refusal(scan)
    assert "names a data set of an HDF5" in refusal(f"{scan}::bold", mask)
    flat = save(tmp_path / "flat.nii", volumes[..., 0])
    assert "4 dimensions (x, y, z, TR), this file has shape (7, 5, 4)" in refusal(flat, mask)
    complex_scan = save(tmp_path / "complex.nii", volumes, dtype=np.complex64)
    assert "holds real numbers, this file complex64" in refusal(complex_scan, mask)


def test_mask_of_another_space_is_refused_with_both(tmp_path, scan, inside):
    other = save(tmp_path / "other.nii", inside[:6], dtype=np.uint8)
    message = refusal(scan, other)
    assert "volumes of shape (7, 5, 4)" in message
    assert f"the mask {other} has shape (6, 5, 4)" in message
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.5
    message = refusal(scan, save(tmp_path / "shifted.nii", inside, shifted, dtype=np.uint8))
    assert "[3.0,0.0,0.0,-9.0]" in message
    assert "[3.0,0.0,0.0,-8.5]" in message


def test_masks_that_choose_nothing_or_too_much_are_refused(tmp_path, scan, inside):
    empty = save(tmp_path / "empty.nii", 0 * inside, dtype=np.uint8)
    assert "the mask is empty: all of its 140 voxels are 0" in refusal(scan, empty)
    atlas = save(tmp_path / "atlas.nii", inside * np.arange(4), dtype=np.uint8)
    assert "this file holds 4 values, 0 to 3" in refusal(scan, atlas)
    assert "3 dimensions, this file has shape (7, 5, 4, 23)" in refusal(scan, scan)
    np.save(tmp_path / "mask.npy", inside)
    assert "a mask is a 3-D NIfTI file" in refusal(scan, tmp_path / "mask.npy")


@pytest.mark.parametrize(
    ("stated", "unit", "accepted"),
    [
        (1.5, "sec", True),
        (1.5009, "sec", True),
        (1500, "msec", True),
        (1.5e6, "usec", True),
        (1.5, "unknown", True),
        (1.0, "unknown", True),
        (0, "sec", True),
        (1.0, "sec", False),
        (2.0, "unknown", False),
        (1.502, "sec", False),
        (1.5, "msec", False),
        (1.5, "hz", False),
    ],
)
def test_header_tr_is_compared_in_its_unit(tmp_path, volumes, mask, inside, stated, unit, accepted):
    path = save(tmp_path / "scan.nii", volumes, tr_seconds=stated, unit=unit)
    if accepted:
        read_bold(path, mask, tr_seconds=TR_SECONDS)
    else:
        message = refusal(path, mask)
        assert f"the header's TR is {stated:g} (unit: {unit}), where 1.5 s is set" in message
        assert "--scan.ignore_header_tr" in message
        options = ScanOptions(ignore_header_tr=True)
        assert scan_shape(path, mask, tr_seconds=TR_SECONDS, options=options)[0] == N_TRS
        bold = read_bold(path, mask, tr_seconds=TR_SECONDS, options=options)
        np.testing.assert_array_equal(bold, volumes[inside].T)


def test_arrays_that_are_no_bold_are_refused(tmp_path, mask):
    for values, told in [
        (np.zeros((3, 4, 5)), "(TRs, voxels), this one has shape (3, 4, 5)"),
        (np.zeros((0, 5)), "(TRs, voxels), this one has shape (0, 5)"),
        (np.zeros((3, 4), complex), "real numbers, this one of complex128"),
        (np.array([["a", "b"]]), "real numbers, this one of <U1"),
        (np.array([[None]]), "not a readable .npy"),
        (np.zeros((3, 4)), "has 4 voxels, where the mask"),
    ]:
        np.save(tmp_path / "scan.npy", values)
        assert told in refusal(tmp_path / "scan.npy", mask)
    assert "names a data set of an HDF5" in refusal(f"{tmp_path}/scan.npy::bold")
    assert "smoothing needs a NIfTI scan" in refusal(tmp_path / "scan.npy", smoothing_fwhm_mm=3)


def test_hdf5_without_one_clear_data_set_is_refused(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as store:
        store["volume"] = np.zeros((2, 3, 4))
    assert "0 data sets have 2 dimensions" in refusal(path)
    with h5py.File(path, "a") as store:
        store["data"] = np.zeros((5, 6))
        store["affine"] = AFFINE
    message = refusal(path)
    assert "2 data sets have 2 dimensions" in message
    assert "scan.h5::name; data sets: affine (4, 4), data (5, 6), volume (2, 3, 4)" in message
    assert "has no data set 'bold'" in refusal(f"{path}::bold")
    assert "this one has shape (2, 3, 4)" in refusal(f"{path}::volume")


def test_options_that_make_no_sense_are_refused(scan, mask, confounds):
    message = refusal(scan, mask, crop_start_trs=20, crop_stop_trs=3)
    assert "cropping 20 TRs at the start and 3 at the end leaves nothing of its 23 TRs" in message
    assert "crop_stop_trs is -1" in refusal(scan, mask, crop_stop_trs=-1)
    assert "smoothing_fwhm_mm is 0" in refusal(scan, mask, smoothing_fwhm_mm=0)
    assert "no confounds are named" in refusal(scan, mask, confounds_path="x.tsv")
    names = ("trans_x", "rot_y")
    message = refusal(scan, mask, confounds=names, crop_start_trs=19)
    assert "2 confounds and slow cosines explain any 4 TRs" in message
    message = refusal(scan, mask, high_pass_seconds=3.1)
    assert "22 confounds and slow cosines explain any 23 TRs" in message
    for seconds in (3, -1, float("inf")):
        message = refusal(scan, mask, high_pass_seconds=seconds)
        assert f"high_pass_seconds is {seconds:g}; accepted: more than two TRs of 1.5" in message


def test_confounds_that_do_not_fit_are_refused(tmp_path, scan, volumes, mask, confounds):
    message = refusal(scan, mask, confounds=("trans_X",))
    assert "has no confound 'trans_X'; the nearest is 'trans_x'" in message
    table = tmp_path / FMRIPREP_TABLE
    lines = table.read_text().splitlines()

    table.write_text("\n".join(lines[:-1]))
    message = refusal(scan, mask, confounds=("trans_x",))
    assert "has 22 rows, where the scan has 23 TRs" in message

    for cell in ("n/a", "x", ""):
        table.write_text(
            "\n".join([*lines[:5], cell + lines[5][lines[5].index("\t") :], *lines[6:]])
        )
        message = refusal(scan, mask, confounds=("trans_x",))
        assert f"row 6: 'trans_x' is {cell!r}" in message

    table.unlink()
    message = refusal(scan, mask, confounds=("trans_x",))
    assert f"no confounds table {table}" in message
    assert "no such file" in refusal(scan, mask, confounds=("x",), confounds_path="none.tsv")
    plain = save(tmp_path / "plain.nii", volumes)
    assert "does not end in _bold" in refusal(plain, mask, confounds=("trans_x",))


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
