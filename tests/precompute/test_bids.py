"""fMRIPrep's derivatives: which scans there are, which films they saw, and when."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids_tree import (
    AFTER_TRS,
    FILM_TRS,
    LEAD_TRS,
    MOTION,
    N_LEFT,
    N_RIGHT,
    OUTLIER,
    SHAPE,
    SPACE,
    TR,
    make_tree,
)
from scan_files import save

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError
from giblet_ray.precompute.plan import Plan, make_plan

TEXT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"
0 4 <exists> 1
"IntervalTier" "word" 0 4 1
0 4 "hello"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("bids"))


@pytest.fixture
def copied(tree: Path, tmp_path: Path) -> Path:
    shutil.copytree(tree.parents[1], tmp_path / "raw")
    return tmp_path / "raw/derivatives/fmriprep"


@pytest.fixture
def plan(film_folder: Path, tmp_path: Path) -> Callable[..., Plan]:
    def make(derivatives: Path, *words: str) -> Plan:
        given = ["--bids", str(derivatives), "--task", "movie", "--stimuli", str(film_folder)]
        given += ["--out", str(tmp_path / "data"), "--codes.weights", "untrained"]
        given += ["--scan.high_pass_seconds", "none"]
        return make_plan(parse_job(PrecomputeJob, [*given, *words]))

    return make


def volumes(space: str) -> dict[str, int]:
    """Units of a subject in each space; of the volume, those in the masks of all of its runs."""
    both, one = int(np.prod(SHAPE)) - 3, int(np.prod(SHAPE)) - 2
    n = {"fsaverage5": N_LEFT + N_RIGHT, "fsLR:91k": N_LEFT + N_RIGHT}.get(space)
    return {"01": n or both, "02": n or both, "03": n or one}


@pytest.mark.parametrize("space", [SPACE, "fsaverage5", "fsLR:91k"])
def test_scans_are_found_in_each_space_with_their_films_and_onsets(
    tree: Path, plan: Callable[..., Plan], space: str
) -> None:
    found = plan(tree, "--space", space)
    assert [film.name for film in found.films] == ["one", "two"]
    assert found.job.tr_seconds == TR
    keys = [(scan.subject, scan.film.name, scan.repeat) for scan in found.scans]
    assert keys == [
        ("01", "one", 1), ("01", "one", 2), ("01", "two", 1),
        ("02", "one", 1), ("02", "one", 2), ("02", "two", 1),
        ("03", "one", 1), ("03", "one", 2),
    ]  # fmt: skip
    assert {scan.subject: scan.n_units for scan in found.scans} == volumes(space)
    for scan in found.scans:
        n_trs = FILM_TRS[scan.film.name]
        assert scan.taken.volumes == (LEAD_TRS, LEAD_TRS + n_trs + AFTER_TRS)
        assert scan.taken.onset_seconds == 0
    assert found.said == (
        "subject 01: 3 scans of 2 films; again: one",
        "subject 02: 3 scans of 2 films; again: one",
        "subject 03: 2 scans of 1 films; again: one; no scan of two",
    )


def test_strategies_choose_columns_and_mask_volumes(tree: Path, plan: Callable[..., Plan]) -> None:
    found = plan(tree, "--space", SPACE, "--scan.strategy", "motion", "scrub", "--subjects", "01")
    for scan in found.scans:
        assert set(scan.columns) == set(MOTION)
        assert scan.scrubbed == (OUTLIER,)
        assert Path(str(scan.confounds)).name.endswith("_desc-confounds_timeseries.tsv")
    (units,) = {tuple(unit.settings["confounds"]) for unit in found.units if unit.part == "bold"}
    assert set(units) == set(MOTION)


def test_a_volume_stands_for_the_time_to_which_slices_were_corrected(
    copied: Path, plan: Callable[..., Plan]
) -> None:
    """To 0.2 s after its start: films begin 0.545 s later than if it were its middle."""
    for file in copied.rglob("*fsaverage5_bold.json"):
        said = {"RepetitionTime": TR, "SliceTimingCorrected": True, "StartTime": 0.2}
        file.write_text(json.dumps(said))
    for scan in plan(copied, "--space", "fsaverage5").scans:
        begins = scan.taken.onset_seconds + (scan.taken.n_before - LEAD_TRS) * TR
        assert begins == pytest.approx(TR / 2 - 0.2, abs=1e-3)


def test_two_films_in_one_run_are_two_scans(copied: Path, plan: Callable[..., Plan]) -> None:
    (events,) = copied.parents[1].glob("sub-01/ses-1/func/*run-2_events.tsv")
    rows = "onset\tduration\tstim_file\nn/a\t0\tn/a\n0\t4\tone.mp4\n13.41\t9\ttwo.mp4\n"
    events.write_text(rows)
    found = plan(copied, "--space", "fsaverage5", "--subjects", "01", "--scan.lengths", "trim")
    taken = {
        (scan.film.name, scan.repeat): scan.taken.volumes
        for scan in found.scans
        if "run-2" in scan.path
    }
    assert taken == {("one", 2): (0, 9), ("two", 1): (9, 20)}


@pytest.mark.parametrize("other", ["two.mp4", "cross.png"])
def test_a_film_that_a_run_shows_again_after_something_else_is_a_repeat(
    copied: Path, plan: Callable[..., Plan], other: str
) -> None:
    """And rows of one name that follow one another, as one for each picture, are one showing."""
    (events,) = copied.parents[1].glob("sub-01/ses-1/func/*run-2_events.tsv")
    shown = [(0, "one.mp4"), (3, "one.mp4"), (6, other), (13.41, "one.mp4"), (15, "one.mp4")]
    rows = "".join(f"{onset}\t1\t{file}\n" for onset, file in shown)
    events.write_text(f"onset\tduration\tstim_file\n{rows}")
    found = plan(copied, "--space", "fsaverage5", "--subjects", "01", "--scan.lengths", "trim")
    taken = [
        (scan.film.name, scan.repeat, scan.taken.volumes, scan.taken.onset_seconds)
        for scan in found.scans
        if "run-2" in scan.path and scan.film.name == "one"
    ]
    first_ends = 4 if other == "two.mp4" else 9
    assert taken == [("one", 2, (0, first_ends), 0), ("one", 3, (9, 20), 0)]


@pytest.mark.parametrize("onset", ["nan", "inf", "soon"])
def test_an_onset_that_is_no_time_is_refused(
    copied: Path, plan: Callable[..., Plan], onset: str
) -> None:
    (events,) = copied.parents[1].glob("sub-01/ses-1/func/*run-2_events.tsv")
    events.write_text(f"onset\tduration\tstim_file\n{onset}\t4\tone.mp4\n")
    with pytest.raises(InputError, match=f"line 2: onset is '{onset}'; seconds are expected"):
        plan(copied, "--space", "fsaverage5", "--subjects", "01", "--scan.lengths", "trim")


def test_films_are_named_after_task_and_run_where_no_events_tell(
    copied: Path, plan: Callable[..., Plan], film_folder: Path, tmp_path: Path
) -> None:
    for events in copied.parents[1].rglob("*_events.tsv"):
        events.unlink()
    films = tmp_path / "films"
    films.mkdir()
    for film, name in (("one", "movie_run-1"), ("two", "movie_run-02")):
        shutil.copy(film_folder / f"{film}.mp4", films / f"{name}.mp4")
    words = ("--space", "fsaverage5", "--stimuli", str(films), "--scan.lengths", "trim")
    with pytest.raises(InputError, match=r"run-2.* which of the films it is of is not told by"):
        plan(copied, *words)
    (films / "movie_run-02.mp4").rename(films / "movie_run-2.mp4")
    assert {scan.film.name for scan in plan(copied, *words).scans} == {"movie_run-1", "movie_run-2"}


def test_films_are_named_as_the_pattern_says(
    copied: Path, plan: Callable[..., Plan], only: Callable[[str], Path]
) -> None:
    """Whether events name the film's file or what scans call it; texts lie beside the file."""
    folder = only("friends_one.mp4")
    (folder / "friends_one.srt").write_text(SUBTITLE)
    for scan in copied.rglob("*run-2*"):
        scan.unlink()
    (events,) = copied.parents[1].glob("sub-01/ses-1/func/*run-1_events.tsv")
    events.write_text(events.read_text().replace("one.mp4", "friends_one.mp4"))
    words = ("--space", "fsaverage5", "--film_pattern", "friends_{stimulus}")
    for where in (("--stimuli", str(folder)), ("--film", str(folder / "friends_one.mp4"))):
        found = plan(copied, *words, *where)
        assert [film.name for film in found.films] == ["one"]
        assert Path(found.films[0].files["text"]).name == "friends_one.srt"
        assert {scan.film.name for scan in found.scans} == {"one"}
        assert len(found.scans) == 6
    shutil.copy(folder / "friends_one.mp4", folder / "bourne.mp4")
    with pytest.raises(InputError, match=r"'bourne' is not named as --film_pattern 'friends_"):
        plan(copied, *words, "--stimuli", str(folder))


GENTLE = '{"words": [{"word": "hello", "start": 0, "end": 1}]}'
SUBTITLE = "1\n00:00:00,000 --> 00:00:01,000\nhello\n"


@pytest.mark.parametrize(
    ("files", "text", "note"),
    [
        ({"one.SRT": SUBTITLE}, "one.SRT", []),
        ({"one.json": GENTLE}, "one.json", []),
        ({"one.TextGrid": TEXT_GRID}, "one.TextGrid", []),
        ({"one.json": GENTLE, "one.srt": SUBTITLE}, "one.srt", ["one.json"]),
        ({"one.json": '{"Description": "a film"}'}, None, ["one.json"]),
        ({"._one.mp4": "", "one.en.txt": "", "b.rm": ""}, None, ["b.rm, one.en.txt"]),
        ({f"{n}.rm": "" for n in range(7)}, None, ["0.rm, 1.rm, 2.rm, 3.rm, 4.rm and 2 more"]),
    ],
)
def test_a_film_s_text_lies_beside_it_and_files_that_are_not_used_are_named(
    copied: Path,
    plan: Callable[..., Plan],
    only: Callable[[str], Path],
    files: dict[str, str],
    text: str | None,
    note: list[str],
) -> None:
    folder = only("one.mp4")
    for name, content in files.items():
        (folder / name).write_text(content)
    for scan in copied.rglob("*run-2*"):
        scan.unlink()
    found = plan(copied, "--space", "fsaverage5", "--stimuli", str(folder))
    assert [Path(film.files.get("text", "None")).name for film in found.films] == [str(text)]
    told = [each for each in found.notes if "not used" in each]
    assert told == [f"--stimuli {folder}: not used: {each}" for each in note]


def test_a_film_that_is_a_link_to_nothing_is_no_film_less(
    tree: Path, plan: Callable[..., Plan], only: Callable[[str], Path]
) -> None:
    folder = only("one.mp4")
    (folder / "two.mp4").symlink_to(".git/annex/objects/two.mp4")
    with pytest.raises(InputError, match=r"two.mp4: is a link to a file that is not here; .*get$"):
        plan(tree, "--space", "fsaverage5", "--stimuli", str(folder))


def test_of_files_beside_given_films_those_of_their_names_are_named(
    copied: Path, plan: Callable[..., Plan], only: Callable[[str], Path]
) -> None:
    folder = only("one.mp4")
    for name in ("one.rm", "two.srt"):
        (folder / name).touch()
    for scan in copied.rglob("*run-2*"):
        scan.unlink()
    found = plan(copied, "--space", "fsaverage5", "--film", str(folder / "one.mp4"))
    assert "beside --film: not used: one.rm" in found.notes


@pytest.fixture
def only(film_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A folder that has film one alone, under some name."""

    def make(name: str) -> Path:
        folder = tmp_path / "only"
        folder.mkdir()
        shutil.copy(film_folder / "one.mp4", folder / name)
        return folder

    return make


def test_scans_whose_events_name_another_film_are_not_of_the_only_one(
    tree: Path, plan: Callable[..., Plan], only: Callable[[str], Path]
) -> None:
    words = ("--space", "fsaverage5", "--stimuli", str(only("one.mp4")))
    with pytest.raises(InputError, match=r"run-2_events.tsv: its stim_file, films/two.mp4, is non"):
        plan(tree, *words)


def test_events_that_are_of_no_film_name_none(
    copied: Path, plan: Callable[..., Plan], only: Callable[[str], Path]
) -> None:
    for events in copied.parents[1].rglob("*_events.tsv"):
        events.write_text("onset\tduration\tstim_file\n0\t4\tn/a\n")
    words = ("--space", "fsaverage5", "--scan.lengths", "trim", "--stimuli")
    with pytest.raises(InputError, match=r"run-1.* which of the films it is of is not told by"):
        plan(copied, *words, str(only("a.mp4")))


@pytest.mark.parametrize("name", ["a", "movie", "movie_run-1", "run-1"])
def test_the_only_film_is_not_that_of_several_runs(
    copied: Path, plan: Callable[..., Plan], only: Callable[[str], Path], name: str
) -> None:
    for events in copied.parents[1].rglob("*_events.tsv"):
        events.unlink()
    words = ("--space", "fsaverage5", "--scan.lengths", "trim", "--stimuli")
    with pytest.raises(InputError, match=r"movie_run-[12], or leave out --bids, and use --bold"):
        plan(copied, *words, str(only(f"{name}.mp4")))


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("my_film-2010", True),
        ("movie", True),
        ("cut_run-01", True),
        ("cut_run-2", False),
        ("movie2", False),
    ],
)
def test_the_only_film_is_that_of_the_only_run_unless_it_is_named_after_another(
    copied: Path,
    plan: Callable[..., Plan],
    only: Callable[[str], Path],
    name: str,
    is_taken: bool,
) -> None:
    for events in copied.parents[1].rglob("*_events.tsv"):
        events.unlink()
    for scan in copied.rglob("*run-2*"):
        scan.unlink()
    words = ("--space", "fsaverage5", "--scan.lengths", "trim")
    folder = str(only(f"{name}.mp4"))
    if not is_taken:
        with pytest.raises(InputError, match=r"run-1.* which of the films it is of is not told by"):
            plan(copied, *words, "--stimuli", folder)
        return
    scans = plan(copied, *words, "--stimuli", folder).scans
    assert [(scan.film.name, scan.repeat) for scan in scans] == [(name, 1), (name, 2)] * 3


def test_masks_of_a_subject_have_in_common_what_all_of_its_runs_have(
    tree: Path, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    found = plan(tree, "--space", SPACE)
    mask = Path(found.scans[0].choosing["mask"])
    assert mask.name == "sub-01_mask.nii.gz"
    assert mask.parents[1] == tmp_path / "data-masks"
    assert nibabel.load(mask).get_fdata().sum() == volumes(SPACE)["01"]


def test_a_job_s_masks_stay_when_another_is_planned_for_the_same_place(
    copied: Path, plan: Callable[..., Plan]
) -> None:
    """Its workers read them until it ends."""
    words = ("--space", SPACE, "--subjects", "01", "--scan.lengths", "trim")
    mask = Path(plan(copied, *words).scans[0].choosing["mask"])
    before = mask.read_bytes()
    assert plan(copied, *words).scans[0].choosing["mask"] == str(mask)
    for scan in copied.rglob("*run-2*"):
        scan.unlink()
    other = Path(plan(copied, *words).scans[0].choosing["mask"])
    assert mask.read_bytes() == before
    assert other.read_bytes() != before


def test_masks_lie_beside_a_data_set_in_the_home_folder(
    copied: Path, plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = plan(copied, "--space", SPACE, "--subjects", "01", "--out=~/data/film/")
    mask = Path(found.scans[0].choosing["mask"])
    assert mask.parents[1] == tmp_path / "home/data/film-masks"


PLANNED = """
import sys
from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.precompute.plan import make_plan
print(make_plan(parse_job(PrecomputeJob, sys.argv[1:])).scans[0].choosing["mask"])
"""


def test_masks_that_are_made_to_say_what_a_job_needs_are_gone_when_it_ends(
    tree: Path, film_folder: Path, tmp_path: Path
) -> None:
    words = ["--bids", str(tree), "--task", "movie", "--space", SPACE, "--codes.make", "false"]
    words += ["--stimuli", str(film_folder), "--out", str(tmp_path / "data"), "--preflight"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    said = subprocess.check_output(
        [sys.executable, "-c", PLANNED, *words], env={**os.environ, "TMPDIR": str(scratch)}
    )
    assert said.startswith(f"{scratch}/masks-".encode())
    assert list(tmp_path.rglob("*")) == [scratch]


def replace_tr(root: Path) -> None:
    for file in root.rglob("sub-02*_bold.json"):
        file.write_text(json.dumps({"RepetitionTime": 2.0}))


def add_resolution(root: Path) -> None:
    for file in root.rglob(f"sub-01_ses-1_task-movie_run-1_space-{SPACE}_desc-preproc_bold.*"):
        shutil.copy(file, str(file).replace("_desc-preproc", "_res-2_desc-preproc"))


def add_acquisition(root: Path) -> None:
    for file in root.rglob(f"sub-01_ses-1_task-movie_run-1_space-{SPACE}_desc-preproc_bold.*"):
        shutil.copy(file, str(file).replace("_run-1", "_acq-dico_run-1"))


def cut_hemisphere(root: Path) -> None:
    (file,) = root.rglob("sub-01_ses-1_task-movie_run-1_hemi-R*.gii")
    file.unlink()


def remove_sidecars(root: Path) -> None:
    for file in root.rglob("*_bold.json"):
        file.unlink()


def move_mask(root: Path) -> None:
    (file,) = root.rglob("sub-01_ses-1_task-movie_run-2_*brain_mask.nii.gz")
    save(file, np.ones((4, 4, 4)))


def cut_mask(root: Path) -> None:
    (file,) = root.rglob("sub-01_ses-1_task-movie_run-2_*brain_mask.nii.gz")
    file.write_bytes(file.read_bytes()[:-9])


def empty_mask(root: Path) -> None:
    (file,) = root.rglob("sub-01_ses-1_task-movie_run-2_*brain_mask.nii.gz")
    file.write_bytes(b"")


def point_at_mask(root: Path) -> None:
    """As git-annex leaves a file that it has not got, where it is unlocked."""
    (file,) = root.rglob("sub-01_ses-1_task-movie_run-2_*brain_mask.nii.gz")
    file.write_text("/annex/objects/SHA256E-s123--0.nii.gz\n")


def unsay_start(root: Path) -> None:
    for file in root.rglob("*_bold.json"):
        said = {"RepetitionTime": TR, "SliceTimingCorrected": True, "StartTime": None}
        file.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (cut_mask, ("--space", SPACE), r"ses-1_task-movie_run-2_.*mask.nii.gz: is not a readabl"),
        (empty_mask, ("--space", SPACE), r"ses-1_task-movie_run-2_.*mask.nii.gz: is not a readabl"),
        (point_at_mask, ("--space", SPACE), r"movie_run-2_.*mask.nii.gz: is not a readable NIfTI"),
        (unsay_start, ("--space", SPACE), r"says a StartTime of None; seconds are expected"),
        (None, ("--task", "move"), r"--task move: no scan of it in .*did you mean movie\?.*movie$"),
        (None, ("--space", "fsaverage6"), r"did you mean fsaverage5\?\); there are MNI152.*91k"),
        (None, (), r"^--space is missing: .* has scans in MNI152NLin2009cAsym, fsLR:91k, fsaverag"),
        (
            None,
            ("--subjects", "04"),
            r"^--subjects 04: has no scan of task movie .* 01, 02, 03 ",
        ),
        (None, ("--bids", "nowhere"), r"^--bids nowhere: no such folder"),
        (None, ("--space", SPACE, "--stimuli", "nowhere"), r"^--stimuli nowhere: no such folder"),
        (
            None,
            ("--space", SPACE, "--tr_seconds", "2"),
            r"says a TR of 1.49 s, and --tr",
        ),
        (replace_tr, ("--space", SPACE), r"its TR is 2 s and that of .* is 1.49 s; a data set has"),
        (
            add_resolution,
            ("--space", SPACE),
            r"are both subject 01's scan ses-1_run-1; say which by --space NAME:RES, of MNI152NLin",
        ),
        (
            add_acquisition,
            ("--space", SPACE),
            r"are both subject 01's scan ses-1_run-1; they differ in acq, which .* --scan.pattern$",
        ),
        (cut_hemisphere, ("--space", "fsaverage5"), r"its other hemisphere, .* is not there$"),
        (remove_sidecars, ("--space", SPACE), r"no .json beside it says its RepetitionTime"),
        (move_mask, ("--space", SPACE), r"its scans' masks do not go together"),
        (None, ("--space", SPACE, "--scan.strategy", "moton"), r"--scan.strategy moton: .*moton"),
        (None, ("--space", SPACE, "--scan.strategy", "ica_aroma"), r"--scan.strategy ica_aroma: "),
    ],
)
def test_what_cannot_be_found_is_one_line(
    copied: Path,
    plan: Callable[..., Plan],
    change: Callable[[Path], None] | None,
    words: tuple[str, ...],
    message: str,
) -> None:
    if change is not None:
        change(copied)
    with pytest.raises(InputError, match=message) as error:
        plan(copied, *words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "movie"), "--task is given without --bids"),
        (("--bids", "d", "--stimuli", "s"), "--task is missing"),
        (("--bids", "d", "--task", "movie"), "--stimuli is missing"),
        (("--bids", "d", "--task", "t", "--stimuli", "s", "--bold", "b.npy"), "leave out --bold"),
    ],
)
def test_settings_of_bids_go_together(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=message):
        parse_job(PrecomputeJob, ["--out", "data", *words])
