"""Which scans there are, and what of each is taken."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis
from scan_files import save_series
from two_films import refusal, request

from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.scans_table import cut_in_words, scans_table


def write_keys(file, **n_trs):
    """Write arrays of 5 units as in a file of many scans; what follows the last _ is their film."""
    with h5py.File(file, "w") as store:
        for key, n in n_trs.items():
            store[key.replace("__", "-")] = np.ones((n, 5), np.float32)
        store["individual_repeats"] = np.ones((2, 9, 5), np.float32)
    return str(file)


PATTERN_OF_KEYS = ("--scan.pattern", "sub-{subject}_::task-{stimulus}")


def test_scans_of_the_films_are_found_among_the_keys_of_a_file(folder, tmp_path):
    keys = {"ses__1_task__one": 9, "ses__1_task__seven": 20, "ses__2_task__two": 14}
    files = [
        write_keys(tmp_path / "sub-1_bold.h5", **keys),
        write_keys(tmp_path / "sub-2_bold.hf5", ses__9_task__one=9),
    ]
    job = request(folder, tmp_path / "out", "--bold", *files, *PATTERN_OF_KEYS)
    plan = make_plan(job.model_copy(update={"mask": None}))
    found = {(scan.subject, scan.film.name): Path(scan.path).name for scan in plan.scans}
    assert found == {
        ("1", "one"): "sub-1_bold.h5::ses-1_task-one",
        ("1", "two"): "sub-1_bold.h5::ses-2_task-two",
        ("2", "one"): "sub-2_bold.hf5::ses-9_task-one",
    }


def test_a_file_without_a_key_of_a_film_is_refused(folder, tmp_path):
    file = write_keys(tmp_path / "sub-1_bold.h5", ses__1_task__seven=20)
    job = request(folder, tmp_path / "out", "--bold", file, *PATTERN_OF_KEYS)
    message = refusal(job.model_copy(update={"mask": None}))
    assert f"{file}: none of its 1 data sets" in message
    assert "ses-1_task-seven, the films one, two" in message


def test_a_session_that_showed_a_film_again_is_refused_but_for_a_pattern_that_tells_it(
    folder, tmp_path
):
    file = write_keys(tmp_path / "sub-1_bold.h5", ses__1_task__one=9, ses__10_task__one=9)
    job = request(folder, tmp_path / "out", "--bold", file, *PATTERN_OF_KEYS)
    job = job.model_copy(update={"mask": None})
    assert f"{file}::ses-1_task-one and {file}::ses-10_task-one are both" in refusal(job)
    told = job.scan.model_copy(update={"pattern": "sub-{subject}::ses-{repeat}_task-{stimulus}"})
    plan = make_plan(job.model_copy(update={"scan": told}))
    assert [(scan.path.rpartition("::")[2], scan.repeat) for scan in plan.scans] == [
        ("ses-1_task-one", 1),
        ("ses-10_task-one", 2),
    ]


def test_repeats_are_counted_by_each_number_of_their_names(folder, tmp_path):
    names = [f"ses-{ses}_run-{run}" for ses, run in ((1, 9), (1, 10), (2, 1), (10, 1))]
    for name in names:
        np.save(tmp_path / f"{name}.npy", np.ones((9, 5), np.float32))
    lines = [f"1 one {name}.npy {name}" for name in reversed(names)]
    job = request(folder, tmp_path / "out").model_copy(update={"bold": ()})
    plan = make_plan(with_table(job, tmp_path, "subject stimulus file repeat", *lines))
    assert {scan.repeat: Path(scan.path).stem for scan in plan.scans} == dict(enumerate(names, 1))


def test_units_may_be_chosen_by_a_file_of_each_subject(folder, tmp_path):
    mask = nibabel.load(folder / "mask.nii.gz")
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    for subject, n_voxels in {"01": 3, "02": 5}.items():
        values = np.zeros(mask.shape, np.uint8)
        values[tuple(inside[:n_voxels].T)] = 1
        nibabel.save(nibabel.Nifti1Image(values, mask.affine), tmp_path / f"{subject}.nii.gz")
    words = ("--mask", f"{tmp_path}/{{subject}}.nii.gz")
    plan = make_plan(request(folder, tmp_path / "out", *words, films=("one",)))
    assert {scan.subject: scan.n_units for scan in plan.scans} == {"01": 3, "02": 5}
    masks = [unit.files["mask"] for unit in plan.units if unit.subject]
    assert masks == [f"{tmp_path}/01.nii.gz", f"{tmp_path}/02.nii.gz"]


def test_an_atlas_makes_units_and_is_refused_where_it_labels_none(folder, tmp_path):
    mask = nibabel.load(folder / "mask.nii.gz")
    labels = np.asarray(mask.dataobj).astype(np.int16)
    labels[np.nonzero(labels)[0][0]] *= 7
    atlas, table = tmp_path / "atlas.nii.gz", tmp_path / "atlas.csv"
    nibabel.save(nibabel.Nifti1Image(labels, mask.affine), atlas)
    table.write_text("1,most\n4,none\n7,first\n")
    job = request(folder, tmp_path / "out", "--atlas", str(atlas), films=("one",))
    for used in (job, job.model_copy(update={"mask": None})):
        plan = make_plan(used)
        assert [scan.n_units for scan in plan.scans] == [3, 3]
        (unit, _) = [unit for unit in plan.units if unit.subject]
        assert (unit.files["atlas"], unit.files["atlas_names"]) == (str(atlas), str(table))
        assert (unit.nbytes, unit.held_bytes) == (4 * 9 * 3, 4 * 9 * np.count_nonzero(labels))
    table.write_text("1,most\n")
    assert f"{table}: does not name label 7, which {atlas} has" in refusal(job)
    nibabel.save(nibabel.Nifti1Image(0 * labels, mask.affine), atlas)
    assert f"{atlas}: has no labels" in refusal(job)
    nibabel.save(nibabel.Nifti1Image(labels[1:], mask.affine), atlas)
    assert f"{atlas}: volumes of shape" in refusal(job)
    without = job.model_copy(update={"atlas": None, "atlas_names": str(table)})
    assert "--atlas_names" in refusal(without)
    assert "is given without --atlas" in refusal(without)


def test_grayordinates_of_a_subject_are_the_same_in_every_scan(folder, tmp_path):
    models = BrainModelAxis.from_mask(np.ones(9, bool), name="CortexLeft")
    for repeat, axis in enumerate((models, models[[*range(8), 7]])):
        name = f"sub-1_run-{repeat}_bold.dtseries.nii"
        save_series(tmp_path / name, np.ones((9, len(axis))), axis)
    scans = sorted(map(str, tmp_path.glob("*.dtseries.nii")))
    words = ("--bold", *scans, "--scan.pattern", "sub-{subject}_run-{repeat}")
    job = request(folder, tmp_path / "out", *words, films=("one",))
    message = refusal(job.model_copy(update={"mask": None}))
    assert f"{scans[1]}: its grayordinates are other vertices and voxels" in message
    assert "its units are no voxels, and --mask" in refusal(job)


def with_table(job, tmp_path, *lines, **settings):
    """Return the job with a table of scans (cells parted by blanks), and other settings of it."""
    table = tmp_path / "scans.tsv"
    table.write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    scan = job.scan.model_copy(update={"table": str(table), **settings})
    return job.model_copy(update={"scan": scan, "mask": None})


def write_arrays(folder, **n_trs):
    """Write scans of 5 units; return their paths."""
    paths = [folder / f"sub-{name.replace('__', '_task-')}_bold.npy" for name in n_trs]
    for path, n in zip(paths, n_trs.values(), strict=True):
        np.save(path, np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32))
    return list(map(str, paths))


def test_scans_of_one_file_are_told_by_their_volumes(folder, tmp_path):
    (file,) = write_arrays(tmp_path, **{"1__all": 9 + 14})
    job = request(folder, tmp_path / "out").model_copy(update={"bold": ()})
    lines = (
        "subject stimulus file first_volume last_volume onset_seconds",
        f"1 one {Path(file).name} 0 8 0",
        f"1 two {Path(file).name} 9 22 -3",
    )
    plan = make_plan(with_table(job, tmp_path, *lines))
    taken = {scan.film.name: scan.taken for scan in plan.scans}
    assert {name: each.volumes for name, each in taken.items()} == {"one": (0, 9), "two": (9, 23)}
    assert {name: each.first_tr for name, each in taken.items()} == {"one": 0, "two": 2}
    assert len({source.sha256 for name, source in plan.sources.items() if file in name}) == 1
    # Each that is named in the table is one scan, also where --bold names its file.
    again = job.model_copy(update={"bold": (file,)})
    assert make_plan(with_table(again, tmp_path, *lines)).scans == plan.scans


def test_a_row_is_of_the_scan_that_names_tell(folder, tmp_path):
    scans = write_arrays(tmp_path, **{"1__one": 13, "1__two": 14, "2__one": 9})
    job = request(folder, tmp_path / "out", "--bold", *scans)
    lines = ("subject stimulus onset_seconds scrub", "1 one 6 5,7-8")
    plan = make_plan(with_table(job, tmp_path, *lines))
    (first,) = (scan for scan in plan.scans if scan.key == ("1", "one", 1))
    assert (first.taken.volumes, first.taken.n_before) == ((4, 13), 4)
    assert first.scrubbed == (5, 7, 8)
    assert [scan.taken.n_before for scan in plan.scans if scan is not first] == [0, 0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("subject stimulus", "3 one"), ("line 2: subject 3, one: there is no such scan", "1 one")),
        (("subject stimulus", "1 onee"), ("line 2: is of stimulus 'onee'", "mean one", "one, two")),
        (("subject stimulus repeat", "1 one 2"), ("subject 1, one, repeat 2", "no such scan")),
        (("subject stimulus onset_seconds", "1 one 99"), ("line 2", "99 s after the first", "9")),
        (("subject stimulus onset_seconds", "1 one 3"), ("9 TRs", "with TR 0", "lengths trim")),
        (("subject stimulus crop_start_trs", "1 one 2"), ("7 TRs after cropping 2", "9 TRs")),
        (("subject stimulus last_volume", "1 one 9"), ("volumes 0 to 9", "has 9, from 0 to 8")),
        (("subject stimulus scrub", "1 one 9"), ("scrub names volume 9", "has 9, from 0")),
        (("subject stimulus scrub", "1 one 3-20,2"), ("scrub names volume 20", "has 9, from 0")),
        (("subject stimulus scrub", "1 one 0-8"), ("every volume that is taken is scrubbed",)),
        (("subject stimulus file", "3 one none.npy"), ("none.npy: no such file",)),
        (
            (
                "subject stimulus file first_volume last_volume",
                "3 one sub-1_task-two_bold.npy 0 8",
                "4 one sub-1_task-two_bold.npy 5 13",
            ),
            ("line 3: volumes 5 to 13", "line 2 has 0 to 8", "share no volume"),
        ),
        (
            ("subject stimulus file", "1 one sub-1_task-two_bold.npy"),
            ("are both subject 1's scan of one",),
        ),
    ],
)
def test_a_table_that_does_not_go_with_the_scans_is_refused(folder, tmp_path, lines, words):
    scans = write_arrays(tmp_path, **{"1__one": 9, "1__two": 14})
    job = request(folder, tmp_path / "out", "--bold", *scans)
    message = refusal(with_table(job, tmp_path, *lines))
    for word in words:
        assert word in message


def test_scans_of_any_length_are_taken_when_told_so_and_what_is_cut_is_listed(folder, tmp_path):
    scans = write_arrays(tmp_path, **{"1__one": 5, "2__one": 40, "3__one": 11, "4__one": 9})
    job = request(folder, tmp_path / "out", "--bold", *scans, films=("one",))
    job = job.model_copy(update={"mask": None})
    assert "--scan.lengths trim" in refusal(job)
    trimmed = job.scan.model_copy(update={"lengths": "trim"})
    plan = make_plan(job.model_copy(update={"scan": trimmed}))
    # After the film, the 14 TRs of the response to its end.
    assert [scan.taken.volumes for scan in plan.scans] == [(0, 5), (0, 23), (0, 11), (0, 9)]
    assert list(map(cut_in_words, plan.scans)) == [
        {"film TRs without BOLD": 4},
        {"volumes after": 17},
        {},
        {},
    ]
    header, *lines = scans_table(plan.scans)
    assert header.split()[:4] == ["subject", "stimulus", "repeat", "file"]
    assert "0 to 4   0 s          0 to 4 of 9            4 film TRs without BOLD" in lines[0]
    assert "0 to 22  0 s          0 to 8 of 9, 14 after  17 volumes after" in lines[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--part", "my_lab.motion:Motion"), "part motion: cuts a film from its beginning on"),
        (("--array", "clip={folder}/one.npy"), "one.npy: has no times, and a scan sees TRs that"),
    ],
)
def test_what_cannot_be_cut_within_a_tr_is_refused_where_a_film_begins_there(
    folder, tmp_path, words, message
):
    scans = write_arrays(tmp_path, **{"1__one": 10})
    given = [word.format(folder=folder) for word in words]
    job = request(folder, tmp_path / "out", "--bold", *scans, *given, films=("one",))
    lines = ("subject stimulus onset_seconds", "1 one 0.6")
    assert message in refusal(with_table(job, tmp_path, *lines))


def test_marked_volumes_of_a_confounds_table_are_scrubbed(folder, tmp_path):
    (scan,) = write_arrays(tmp_path, **{"1__one": 9})
    marks = np.zeros((9, 2), int)
    marks[[2, 7], [0, 1]] = 1
    table = Path(scan.replace("_bold.npy", "_desc-confounds_timeseries.tsv"))
    cells = ["csf\tmotion_outlier00\tmotion_outlier01"]
    cells += ["\t".join(map(str, (tr, *row))) for tr, row in enumerate(marks)]
    table.write_text("\n".join(cells) + "\n")
    job = request(folder, tmp_path / "out", "--bold", scan, "--scan.scrub", "motion_outlier")
    (plan,) = make_plan(job.model_copy(update={"mask": None})).scans
    assert plan.scrubbed == (2, 7)
    assert cut_in_words(plan) == {"scrubbed": 2}
