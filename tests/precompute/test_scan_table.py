import pytest

from giblet_ray.errors import InputError
from giblet_ray.precompute.scan_table import ScanRow, check_ranges, read_scan_table


def write(folder, *lines):
    table = folder / "scans.tsv"
    table.write_text("".join(f"{line}\n" for line in lines))
    return str(table)


def test_a_row_says_what_its_cells_say(tmp_path):
    table = write(
        tmp_path,
        "subject\tstimulus\tfile\tfirst_volume\tlast_volume\tonset_seconds\tscrub",
        "sub-01\tone\tbold/s1.nii.gz\t0\t945\t-4.5\t3, 17-19",
        "",
        "02\tone\tn/a\t\t\t\t",
    )
    first, second = read_scan_table(table)
    assert first == ScanRow(
        f"--scan.table {table}, line 2",
        "01",
        "one",
        file=str(tmp_path / "bold/s1.nii.gz"),
        first_volume=0,
        last_volume=945,
        onset_seconds=-4.5,
        scrub=((3, 4), (17, 20)),
    )
    assert second == ScanRow(f"--scan.table {table}, line 4", "02", "one")
    assert first.says_when
    assert not second.says_when


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("subject\tstimulus\tonset", "1\ta\t3"), ("'onset' is not known", "onset_seconds")),
        (("subject\tonset_seconds", "1\t3"), ("has no column stimulus",)),
        (("subject\tstimulus", "\ta"), ("line 2", "has no subject")),
        (("subject\tstimulus", "1\ta", "1\ta"), ("line 3", "same scan as line 2", "subject 1, a")),
        (("subject\tstimulus\tonset_seconds", "1\ta\tlate"), ("onset_seconds is 'late'",)),
        (("subject\tstimulus\tonset_seconds", "1\ta\tinf"), ("onset_seconds is 'inf'",)),
        (("subject\tstimulus\tcrop_start_trs", "1\ta\t-1"), ("crop_start_trs is '-1'",)),
        (("subject\tstimulus\tcrop_stop_trs", "1\ta\t1.5"), ("crop_stop_trs is '1.5'",)),
        (("subject\tstimulus\tfilm_offset_seconds", "1\ta\t-1"), ("film_offset_seconds is -1",)),
        (("subject\tstimulus\tscrub", "1\ta\t9-3"), ("scrub is '9-3'", "3,17-19")),
        (("subject\tstimulus\tfirst_volume\tlast_volume", "1\ta\t9\t3"), ("volumes 9 to 3",)),
        (("subject\tstimulus", "1\ta\t3"), ("line 2", "more cells than the header")),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_in_one_line(tmp_path, lines, words):
    with pytest.raises(InputError) as caught:
        read_scan_table(write(tmp_path, *lines))
    message = str(caught.value)
    assert "\n" not in message
    for word in ("--scan.table", *words):
        assert word in message


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_scan_table(str(tmp_path / "none.tsv"))


def test_scans_of_one_file_share_no_volume():
    rows = [ScanRow(f"t.tsv, line {line}", "1", "a") for line in (2, 3, 4)]
    apart = [
        (rows[0], "x.nii", (946, 1976)),
        (rows[1], "x.nii", (0, 946)),
        (rows[2], "y.nii", (0, 9)),
    ]
    check_ranges(apart)
    with pytest.raises(InputError, match=r"line 4: volumes 945 to 949 of x.nii, .* 3 has 0 to 945"):
        check_ranges([*apart[:2], (rows[2], "x.nii", (945, 950))])
