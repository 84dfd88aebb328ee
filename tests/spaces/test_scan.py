import gzip
import warnings

import h5py
import nibabel
import numpy as np
import pytest
from scan_files import AFFINE, FMRIPREP_TABLE, N_TRS, TR_SECONDS, save

import giblet_ray.spaces.array as array
import giblet_ray.spaces.volume as volume
from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import space_of_scan
from giblet_ray.spaces.scan import ScanOptions, read_bold, scan_shape


def refusal(path, mask=None, tr_seconds=TR_SECONDS, **options):
    with pytest.raises(InputError) as caught:
        read_bold(path, mask, tr_seconds=tr_seconds, options=ScanOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_some_volumes_of_a_file_are_read(tmp_path, scan, volumes, inside, mask):
    np.save(tmp_path / "scan.npy", volumes[inside].T)
    options = ScanOptions(volumes=(3, N_TRS - 2))
    for path in (scan, tmp_path / "scan.npy"):
        bold = read_bold(path, mask, tr_seconds=TR_SECONDS, options=options)
        np.testing.assert_array_equal(bold, volumes[inside].T[3:-2])


def test_scrubbed_volumes_shape_no_fit(tmp_path, volumes, inside):
    spoilt = volumes[inside].T.copy()
    spoilt[[5, 6, 12]] *= 1000
    bold = {}
    for name, values in {"whole": volumes[inside].T, "spoilt": spoilt}.items():
        np.save(tmp_path / f"{name}.npy", values)
        bold[name] = read_bold(
            tmp_path / f"{name}.npy",
            tr_seconds=TR_SECONDS,
            options=ScanOptions(volumes=(2, N_TRS), scrubbed=(5, 6, 12), high_pass_seconds=12),
        )
    np.testing.assert_array_equal(bold["whole"], bold["spoilt"])
    scrubbed = ~np.isfinite(bold["spoilt"]).all(axis=1)
    assert np.flatnonzero(scrubbed).tolist() == [3, 4, 10]
    assert np.isnan(bold["spoilt"][scrubbed]).all()


# ---- refusals


def test_files_that_cannot_be_read_are_refused(tmp_path, scan, volumes, mask):
    assert "no such file" in refusal(tmp_path / "none.nii.gz", mask)
    assert "no such file" in refusal(scan, tmp_path / "none.nii.gz")
    assert "accepted: .npy, .h5, .hdf5, .hf5, .nii, .nii.gz" in refusal(
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


@pytest.mark.parametrize("kind", ["ptseries", "pscalar", "dscalar", "dlabel"])
def test_other_files_of_cifti_are_refused_by_their_name(tmp_path, mask, kind):
    told = rf"x\.{kind}\.nii: extension is not known for a scan; accepted: .*\.dtseries\.nii"
    (tmp_path / f"x.{kind}.nii").write_bytes(b"x")
    with pytest.raises(InputError, match=told):
        space_of_scan(tmp_path / f"x.{kind}.nii", mask)


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


def test_the_other_data_sets_of_a_file_are_not_visited(tmp_path, monkeypatch):
    """A file may hold thousands of scans, each of which is opened by its name."""
    expected = np.ones((5, 6), np.float32)
    with h5py.File(tmp_path / "scans.h5", "w") as store:
        for name in ("one", "two", "group/three"):
            store[name] = expected

    def visited(*_):
        raise AssertionError("all data sets of the file are visited")

    monkeypatch.setattr(array, "_hdf5_sets", visited)
    for name in ("one", "/two", "group/three"):
        bold = read_bold(f"{tmp_path}/scans.h5::{name}", tr_seconds=TR_SECONDS)
        np.testing.assert_array_equal(bold, expected)


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
    assert "has no data set '/'" in refusal(f"{path}::/")


def test_options_that_make_no_sense_are_refused(scan, mask, confounds):
    assert "volumes 20 to 23 are asked of its 23" in refusal(scan, mask, volumes=(20, 24))
    assert "smoothing_fwhm_mm is 0" in refusal(scan, mask, smoothing_fwhm_mm=0)
    assert "no confounds are named" in refusal(scan, mask, confounds_path="x.tsv")
    names = ("trans_x", "rot_y")
    message = refusal(scan, mask, confounds=names, volumes=(19, 23))
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
    assert "has 22 rows, where the scan's file has 23 TRs" in message

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
