import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from giblet_ray.errors import InputError
from giblet_ray.features.array_file import read_array

VALUES = np.random.default_rng(0).normal(size=(7, 3)).round(3)
TIMES = np.arange(7) * 0.5


def columns(values, times=None, name="time"):
    named = {f"x{i}": column for i, column in enumerate(values.T)}
    return pa.table(named if times is None else {"x": values[:, 0], name: times, **named})


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write(path, values, times):
    """Write values, and times if there are any, in the way of the path's ending."""
    kind = path.suffix
    both = {"values": values} if times is None else {"values": values, "times": times}
    if kind == ".npy":
        np.save(path, values)
    elif kind == ".npz":
        np.savez(path, **both)
    elif kind in (".h5", ".hdf5"):
        write_hdf5(path, **both)
    elif kind == ".parquet":
        parquet.write_table(columns(values, times), path)
    else:
        options = csv.WriteOptions(delimiter="\t" if kind == ".tsv" else ",")
        csv.write_csv(columns(values, times, "Onset (s)"), path, options)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".h5", ".hdf5", ".tsv", ".csv", ".parquet"])
@pytest.mark.parametrize("timed", [False, True])
def test_every_kind_of_file_gives_its_values_and_times(tmp_path, kind, timed):
    path = tmp_path / f"clip{kind}"
    times = TIMES if timed and kind != ".npy" else None
    write(path, VALUES, times)
    array = read_array(str(path))
    is_table = kind in (".tsv", ".csv", ".parquet")
    expected = np.c_[VALUES[:, :1], VALUES] if is_table and timed else VALUES
    np.testing.assert_array_equal(array.values_ND, expected.astype(np.float32))
    assert array.values_ND.dtype == np.float32
    if times is None:
        assert array.times_N is None
    else:
        np.testing.assert_array_equal(array.times_N, TIMES)


@pytest.mark.parametrize("key", ["clip", "film/clip"])
def test_an_array_of_a_large_hdf5_file_is_chosen_by_its_name(tmp_path, key):
    write_hdf5(tmp_path / "all.h5", clip=VALUES, **{"film/clip": VALUES, "film/times": TIMES})
    array = read_array(f"{tmp_path}/all.h5::{key}")
    np.testing.assert_array_equal(array.values_ND, VALUES.astype(np.float32))
    assert (array.times_N is None) == (key == "clip")


def test_a_group_of_an_hdf5_file_has_values_and_times(tmp_path):
    write_hdf5(tmp_path / "all.h5", **{"gaze/values": VALUES, "gaze/times": TIMES})
    assert read_array(f"{tmp_path}/all.h5::gaze").times_N is not None


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64"])
def test_numbers_of_any_format_become_float32(tmp_path, dtype):
    values = np.array([[0, 1], [1, 0]], dtype)
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(read_array(str(tmp_path / "x.npy")).values_ND, values)


def spoiled(value, row=4, column=1):
    values = VALUES.copy()
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES[:, 0], "is of shape (7,); (TRs or samples, numbers) is expected"),
        (VALUES[None], "is of shape (1, 7, 3)"),
        (VALUES[:0], "is of shape (0, 3)"),
        (VALUES[:, :0], "is of shape (7, 0)"),
        (spoiled(np.nan), "row 4, column 1 (from 0) is nan"),
        (spoiled(-np.inf), "row 4, column 1 (from 0) is -inf"),
        (spoiled(-1e39), "holds 1e+39, which float32 cannot hold"),
        (VALUES.astype(str), "holds <U"),
        (VALUES + 1j, "holds complex128"),
        (np.array([["a", None]], object), "cannot be read as .npy: ValueError"),
    ],
)
def test_values_that_are_no_finite_numbers_of_two_axes_are_refused(tmp_path, values, words):
    np.save(tmp_path / "clip.npy", values)
    refused(tmp_path / "clip.npy", words)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (TIMES[:-1], "its times are float64 of shape (6,); one number for each of the 7 rows"),
        (TIMES[:, None], "of shape (7, 1)"),
        (TIMES.astype(str), "its times are <U"),
        (np.where(TIMES == 1, np.nan, TIMES), "the time of row 2 (from 0) is nan"),
        (TIMES[::-1], "falls back from 3 to 2.5 s at row 1"),
    ],
)
def test_times_that_are_no_times_are_refused(tmp_path, times, words):
    np.savez(tmp_path / "clip.npz", values=VALUES, times=times)
    refused(tmp_path / "clip.npz", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time\tx\n0\t1\n1\tn/a\n", "column 'x' has no number at row 1"),
        ("time\tx\n0\t1\n1\t2,5\n", "column 'x' has '2,5' at row 1"),
        ("time\tx\n0\t1\n1\n", "cannot be read as .tsv"),
        ("0.0\t1.5\n1.0\t2.5\n", "the first row holds '0.0'; names of columns are expected"),
        ("\tx\n0\t1\n", "a column is an index without a name"),
        ("time\tOnset\tx\n0\t0\t1\n", "'time' and 'Onset' could each be the time"),
        ("time\n0\n1\n", "no column of numbers besides the time"),
        ("time\tx\n", "column 'time' holds null"),
    ],
)
def test_tables_that_are_no_numbers_are_refused(tmp_path, text, words):
    (tmp_path / "gaze.tsv").write_text(text)
    refused(tmp_path / "gaze.tsv", words)


def test_lists_in_a_table_are_refused(tmp_path):
    parquet.write_table(pa.table({"x": [[1.0, 2.0]]}), tmp_path / "clip.parquet")
    refused(tmp_path / "clip.parquet", "column 'x' holds list")


def test_arrays_that_are_not_where_they_are_looked_for_are_refused(tmp_path):
    np.savez(tmp_path / "clip.npz", VALUES)
    refused(tmp_path / "clip.npz", "holds arr_0; an array 'values' is expected")
    write_hdf5(tmp_path / "clip.h5", a=VALUES)
    refused(tmp_path / "clip.h5", "holds a; an array 'values' is expected")
    refused(f"{tmp_path}/clip.h5::b", "the file has no 'b'; it has a")
    np.save(tmp_path / "clip.npy", VALUES)
    refused(f"{tmp_path}/clip.npy::values", "'::' chooses an array of an HDF5 file")


@pytest.mark.parametrize("kind", [".npy", ".npz", ".h5", ".parquet", ".tsv"])
def test_a_damaged_file_is_refused(tmp_path, kind):
    path = tmp_path / f"clip{kind}"
    path.write_bytes(b"\x93NUMPY\xff\x00not what it says")
    refused(path, str(path))


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    refused(tmp_path / "clip.npy", "no such file")
    (tmp_path / "clip.mat").write_bytes(b"MATLAB 5.0")
    refused(tmp_path / "clip.mat", "'.mat' is not known for an array; accepted: .npy, .npz")


def refused(path, words):
    with pytest.raises(InputError) as caught:
        read_array(str(path))
    message = str(caught.value)
    assert message.startswith(str(path).partition("::")[0])
    assert words in message
    assert "\n" not in message
