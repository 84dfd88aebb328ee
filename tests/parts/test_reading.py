"""What holds of every kind of encoder's reading."""

import numpy as np
import pytest
import torch

from giblet_ray.errors import InputError
from giblet_ray.parts.reading import READINGS, find_reading
from giblet_ray.parts.value import ValueType

ROWS = {
    "image": ValueType(dtype="uint8", shape=(3, 5, 7)),
    "codes": ValueType(dtype="int16", shape=(8, 6)),
    "mel": ValueType(dtype="float16", shape=(5, 6)),
    "vector": ValueType(dtype="float32", shape=(9,)),
}


def rows(kind, n=11):
    values = np.random.default_rng(0).integers(0, 255, (n, *ROWS[kind].shape))
    return values.astype(ROWS[kind].numpy)


@pytest.fixture(params=READINGS)
def kind(request):
    return request.param


def test_a_kind_reads_its_own_rows_and_no_others(kind):
    assert [other for other in ROWS if READINGS[kind].reads(ROWS[other])] == [kind]


def test_several_pictures_of_a_tr_are_channels_in_order():
    image = READINGS["image"]
    assert image.reads(ValueType(dtype="uint8", shape=(12, 5, 7)))
    assert not image.reads(ValueType(dtype="uint8", shape=(4, 5, 7)))
    assert not image.reads(ValueType(dtype="uint8", shape=(4, 3, 5, 7)))


def test_good_rows_pass_and_are_described_in_one_line(kind):
    READINGS[kind].check(rows(kind), "x.parquet")
    said = READINGS[kind].describe(rows(kind))
    assert said
    assert "\n" not in said


def test_inputs_have_the_shape_of_the_rows_and_leave_them_as_they_are(kind):
    values = torch.from_numpy(rows(kind, 12)).view(3, 4, *ROWS[kind].shape)
    before = values.clone()
    inputs = READINGS[kind].to_input(values)
    assert inputs.shape == values.shape
    assert torch.equal(values, before)
    assert inputs.dtype == (torch.int64 if kind == "codes" else torch.float32)


def test_inputs_are_the_numbers_of_the_rows():
    image = READINGS["image"].to_input(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert image.tolist() == pytest.approx([-0.5, -0.3, 0.5])
    assert READINGS["codes"].to_input(torch.tensor([7], dtype=torch.int16)).tolist() == [7]
    mel = torch.tensor([-23.0, 0.5], dtype=torch.float16)
    assert READINGS["mel"].to_input(mel).tolist() == [-23.0, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["mel", "vector"])
def test_numbers_that_are_not_finite_are_refused_with_their_tr(kind, bad):
    values = rows(kind)
    values.reshape(len(values), -1)[4, 2] = bad
    with pytest.raises(InputError, match=r"x.parquet: the value of TR 104 is not finite"):
        READINGS[kind].check(values, "x.parquet", first_tr=100)


@pytest.mark.parametrize("bad", [-1, 1024])
def test_codes_out_of_range_are_refused(bad):
    values = rows("codes")
    values[3, 2, 1] = bad
    with pytest.raises(InputError, match=rf"x.parquet: code {bad} at TR 3; 0 to 1023"):
        READINGS["codes"].check(values, "x.parquet")


def test_of_codes_the_first_codebooks_can_be_read_alone():
    codes, narrow = READINGS["codes"], ValueType(dtype="int16", shape=(2, 6))
    codes.check_leading(ROWS["codes"], 2, "d")
    assert codes.suits(ROWS["codes"], narrow)
    assert not codes.suits(narrow, ROWS["codes"])
    assert not codes.suits(ROWS["codes"], ValueType(dtype="int16", shape=(2, 5)))
    with pytest.raises(
        InputError, match=r"d has 8 codebooks; use at most 8, .*--codes.codebooks 16"
    ):
        codes.check_leading(ROWS["codes"], 16, "d")


@pytest.mark.parametrize("kind", ["image", "mel", "vector"])
def test_other_rows_are_read_whole(kind):
    reading, value = READINGS[kind], ROWS[kind]
    shorter = value.model_copy(update={"shape": (2, *value.shape[1:])})
    assert reading.suits(value, value)
    assert not reading.suits(value, shorter)
    reading.check_leading(value, value.shape[0], "d")
    with pytest.raises(InputError, match=r"d holds .*, which is read whole"):
        reading.check_leading(value, 2, "d")


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"manifest.json: .*'vectr' \(did you mean vector\?\)"):
        find_reading("vectr", "manifest.json")
