import shutil
from pathlib import Path

import av
import nibabel
import numpy as np
import pytest
from two_films import refusal, request, silent

from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.contents import contents_tables
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.parts.part import Prepared
from giblet_ray.precompute import precompute as run
from giblet_ray.precompute import resume
from giblet_ray.precompute.kept_blobs import keep_blobs
from giblet_ray.precompute.kept_spaces import keep_spaces
from giblet_ray.precompute.makers import make_shard
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.provenance import build_manifest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--film", "one.mp4", "missing.mp4"), ("missing.mp4", "no such file")),
        (("--film", "one.mp4"), ("--text names 2", "--film 1")),
        (("--text", "one.srt", "missing.srt"), ("missing.srt", "no such file")),
        (("--text", "two.srt", "one.srt"), ("two.srt", "past the film's end")),
        (("--mask", "missing.nii.gz"), ("missing.nii.gz", "no such file")),
        (("--bold", "sub-01_task-three_bold.nii.gz"), ("'three'", "the films are one, two")),
        (("--bold", "one.srt"), ("one.srt", "sub-{subject}")),
        (("--scan.pattern", "sub-{subject}"), ("{stimulus}", "2 films")),
        (("--scan.pattern", "task-{stimulus}"), ("{subject}",)),
        (("--scan.pattern", "sub-{subject}_task-{run}"), ("{run}",)),
        (("--scan.crop_start_trs", "2"), ("7 TRs after cropping 2", "9 TRs", "one.mp4")),
        (("--codes.bandwidth", "3", "--codes.codebooks", "8"), ("3 kbps", "4 codebooks", "6 kbps")),
        (("--codes.codebooks", "5"), ("codebooks is 5",)),
        (("--codes.weights", "my.safetensors"), ("no such file", "my.safetensors")),
        (("--tr_seconds", "0.01"), ("tr_seconds", "1/75 s")),
        (("--tr_seconds", "2"), ("TR is 1.5", "2 s is set")),
        (("--scan.confounds", "trans_x"), ("confounds",)),
        (("--scan.high_pass_seconds", "2.9"), ("2.9; accepted: more than two TRs of 1.5 s",)),
        (("--scan.confounds_path", "one.srt"), ("one.srt", "no folder")),
        (("--embedding.model", "BAAI/bge-large-en-v1.5"), ("sentence-transformers",)),
    ],
)
def test_bad_input_is_told_before_anything_is_started(folder, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(folder)
    message = refusal(request(folder, tmp_path / "out", *change))
    for word in words:
        assert word in message


def test_two_films_of_one_name_are_refused(folder, tmp_path):
    (tmp_path / "other").mkdir()
    same = shutil.copy(folder / "one.mp4", tmp_path / "other")
    films = ("--film", str(folder / "one.mp4"), same)
    message = refusal(request(folder, tmp_path / "out", *films))
    assert "both named one" in message


def test_two_scans_of_one_name_are_refused(folder, tmp_path):
    scan = str(folder / "sub-01_task-one_bold.nii.gz")
    again = shutil.copy(scan, tmp_path / "sub-01_task-one_again.nii.gz")
    message = refusal(request(folder, tmp_path / "out", "--bold", scan, str(again)))
    for word in (scan, str(again), "{repeat}", "--scan.pattern"):
        assert word in message


def test_two_sessions_of_one_film_are_repeats(folder, tmp_path):
    for subject, sessions in {"01": ("2", "10"), "02": ("003",)}.items():
        for session in sessions:
            name = f"sub-{subject}_ses-{session}_task-one_bold.nii.gz"
            shutil.copy(folder / "sub-01_task-one_bold.nii.gz", tmp_path / name)
    scans = sorted(map(str, tmp_path.glob("*.nii.gz")))
    pattern = ("--scan.pattern", "sub-{subject}_ses-{repeat}_task-{stimulus}")
    plan = make_plan(request(folder, tmp_path / "out", "--bold", *scans, *pattern))
    found = {(s.subject, s.repeat): Path(s.path).name.split("_")[1] for s in plan.scans}
    assert found == {("01", 1): "ses-2", ("01", 2): "ses-10", ("02", 1): "ses-003"}
    paths = {unit.path for unit in plan.units if unit.subject}
    assert paths == {"bold/01/one.parquet", "bold/01/2/one.parquet", "bold/02/one.parquet"}


def test_scans_are_high_passed_unless_told_not_to(folder, tmp_path):
    def settings(*words):
        (found,) = {
            unit.settings["high_pass_seconds"]
            for unit in make_plan(request(folder, tmp_path / "out", *words)).units
            if unit.subject
        }
        return found

    assert settings() == 128
    assert settings("--scan.high_pass_seconds", "100") == 100
    assert settings("--scan.high_pass_seconds", "none") is None


def test_a_wrong_tr_in_a_header_is_refused_unless_told_to_be_wrong(folder, tmp_path):
    scan = nibabel.load(folder / "sub-01_task-one_bold.nii.gz")
    scan.header.set_zooms((3, 3, 3, 1.0))
    path = tmp_path / "sub-01_task-one_bold.nii.gz"
    nibabel.save(scan, path)
    message = refusal(request(folder, tmp_path / "out", "--bold", str(path)))
    for words in (str(path), "TR is 1 (unit: sec), where 1.5 s", "--scan.ignore_header_tr"):
        assert words in message
    believed = ("--scan.ignore_header_tr",)
    plan = make_plan(request(folder, tmp_path / "out", "--bold", str(path), *believed))
    (unit,) = (unit for unit in plan.units if unit.subject)
    assert (unit.n_trs, unit.settings["ignore_header_tr"]) == (9, True)


def test_scans_of_another_length_than_their_film_are_refused(folder, tmp_path):
    scan = shutil.copy(folder / "sub-01_task-two_bold.nii.gz", tmp_path / "sub-01_task-one.nii.gz")
    message = refusal(request(folder, tmp_path / "out", "--bold", str(scan)))
    for words in (str(scan), "14 TRs", "one.mp4", "9 TRs", "crop_start_trs", "crop_stop_trs"):
        assert words in message


def test_voxels_of_a_subject_are_the_same_in_every_scan(folder, tmp_path):
    names = ("sub-1_run-1_task-one", "sub-1_run-2_task-one", "sub-2_run-1_task-one")
    arrays = [tmp_path / f"{name}.npy" for name in names]
    for array, n_voxels in zip(arrays, (10, 11, 7), strict=True):
        np.save(array, np.ones((9, n_voxels), np.float32))
    pattern = ("--scan.pattern", "sub-{subject}_run-{repeat}")
    words = ("--bold", *map(str, arrays), *pattern)
    job = request(folder, tmp_path / "out", *words, films=("one",))
    message = refusal(job.model_copy(update={"mask": None}))
    assert f"{arrays[1]} has 11 voxels" in message
    assert f"{arrays[0]} has 10" in message
    job = job.model_copy(update={"mask": None, "bold": (str(arrays[0]), str(arrays[2]))})
    assert [scan.n_units for scan in make_plan(job).scans] == [10, 7]


def test_a_mask_of_another_shape_is_refused(folder, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), mask)
    message = refusal(request(folder, tmp_path / "out", "--mask", str(mask)))
    for word in (str(mask), "(3, 3, 3)", "sub-01_task-one"):
        assert word in message


def test_a_mask_without_scans_is_refused(folder, tmp_path):
    job = request(folder, tmp_path / "out").model_copy(update={"bold": ()})
    assert "--mask" in refusal(job)


def test_places_that_cannot_hold_the_data_set_are_refused(folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.doc").write_text("")
    for out, words in (
        (file, "is a file"),
        (file / "below", "cannot be written"),
        (tmp_path / "full", "something else (thesis.doc)"),
        ("nowhere://bucket/data", "no file system"),
    ):
        with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
            run.precompute(request(folder, out), silent)
        assert words in str(caught.value)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.doc"]


def test_what_does_not_fit_on_the_disk_is_refused(folder, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda _: full)
    with pytest.raises(InputError, match=r"are to be written and 0.0 GB are free"):
        run.precompute(request(folder, tmp_path / "out"), silent)


# --- films that lack something ----------------------------------------------------------------


def copy_streams(film, path, *kinds):
    """Copy a film's streams of these kinds, such as video, into a file of its own."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        taken = [stream for stream in source.streams if stream.type in kinds]
        copies = {stream.index: target.add_stream_from_template(stream) for stream in taken}
        for packet in source.demux(taken):
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    return str(path)


def without_scans(folder, out, *changes):
    return request(folder, out, *changes).model_copy(update={"bold": (), "mask": None})


def made_of(plan):
    """Return the stimuli that each part is made of."""
    return {
        part: [unit.stimulus for unit in plan.units if unit.part == part] for part in plan.parts
    }


def test_sound_alone_has_all_but_pictures(folder, tmp_path):
    story = copy_streams(folder / "one.mp4", tmp_path / "one.m4a", "audio")
    job = without_scans(
        folder, tmp_path / "out", "--film", story, "--text", str(folder / "one.srt")
    )
    plan = make_plan(job)
    assert made_of(plan) == {"codes": ["one"], "text": ["one"]}
    assert [film.n_trs for film in plan.films] == [9]
    assert plan.notes == ("one is without frames: it has no pictures",)
    both = ("--film", story, str(folder / "two.mp4"), "--mel.make", "--motion_energy.make")
    plan = make_plan(without_scans(folder, tmp_path / "out", *both))
    heard = {part: ["one", "two"] for part in ("codes", "mel", "text")}
    assert made_of(plan) == heard | {"frames": ["two"], "motion_energy": ["two"]}
    assert plan.notes == ("one is without frames, motion_energy: it has no pictures",)
    lone = ("--film", story, "--text", "none", "--motion_energy.make")
    message = refusal(without_scans(folder, tmp_path / "out", *lone))
    assert message.startswith(f"{story}: it has no pictures, which motion_energy is made from")
    assert "--motion_energy.make false" in message


def test_pictures_alone_have_all_but_sound_if_told(folder, tmp_path):
    silent_film = copy_streams(folder / "one.mp4", tmp_path / "one.mp4", "video")
    words = ("--film", silent_film, "--text", "none")
    message = refusal(without_scans(folder, tmp_path / "out", *words))
    told = "it has no audio, which codes is made from; --codes.make false leaves that out"
    assert message == f"{silent_film}: {told}"
    plan = make_plan(without_scans(folder, tmp_path / "out", *words, "--codes.make", "false"))
    assert (made_of(plan), plan.notes) == ({"frames": ["one"]}, ())
    message = refusal(
        without_scans(folder, tmp_path / "out", *words, "--codes.make", "false", "--sound.make")
    )
    assert "--sound.make false" in message
    more = ("--film", silent_film, str(folder / "two.mp4"))
    plan = make_plan(without_scans(folder, tmp_path / "out", *more))
    assert made_of(plan)["codes"] == ["two"]
    assert plan.notes == ("one is without codes: it has no audio",)


ROLLING = """1
00:00:01,000 --> 00:00:03,000
the river rises

2
00:00:03,000 --> 00:00:05,000
the river rises
over the bridge
"""


def test_a_data_set_has_what_its_films_have_and_says_what_was_repaired(folder, tmp_path):
    story = copy_streams(folder / "one.mp4", tmp_path / "one.m4a", "audio")
    words = tmp_path / "two.srt"
    words.write_text(ROLLING)
    films = ("--film", story, str(folder / "two.mp4"), "--text", "none", str(words))
    own = ("--codes.make", "false", "--sound.make")
    job = without_scans(folder, tmp_path / "out", *films, *own)
    plan, storage = make_plan(job), Storage.at(job.out)
    assert made_of(plan) == {"frames": ["two"], "sound": ["one", "two"], "text": ["two"]}
    assert plan.notes == (
        "one is without frames: it has no pictures",
        "one is without text: no text is given of it",
    )
    records = {}
    for unit in plan.units:
        part = plan.parts[unit.part]
        part.load(Prepared(), "cpu")
        records[unit.path] = make_shard(part, unit, storage)
    spaces = keep_spaces(storage, plan.units)
    blobs = keep_blobs(storage, plan.parts, None, lambda part: Prepared())
    write_manifest(storage, build_manifest(job, plan, records, spaces, blobs, ()))
    dataset = Dataset.open(job.out)
    assert {name: list(each.shards) for name, each in dataset.stimuli.items()} == {
        "one": ["sound"],
        "two": ["frames", "sound", "text"],
    }
    assert check_dataset(job.out).problems == ()
    assert {group.stimulus for group in dataset.row_groups()} == {"one", "two"}
    assert {group.stimulus for group in dataset.row_groups(("sound", "text"))} == {"one", "two"}
    assert {group.stimulus for group in dataset.row_groups(("text",))} == {"two"}
    (stimuli, *_) = contents_tables(dataset)
    silent, lacks = (list(stimuli.columns[at].cells) for at in (3, 5))
    assert (silent[0], lacks[0]) == ("no text", "frames, text")
    (note,) = dataset.manifest.provenance["shards"]["text/two.parquet"]["facts"]["notes"]
    assert note.startswith("two.srt: rolling captions: 1 of 2 cues")
    assert f"note: {note}" in run._notes(dataset.manifest)


def test_a_film_of_which_nothing_is_made_is_refused(folder, tmp_path):
    story = copy_streams(folder / "one.mp4", tmp_path / "one.m4a", "audio")
    films = ("--film", str(folder / "two.mp4"), story, "--text", str(folder / "two.srt"), "none")
    message = refusal(without_scans(folder, tmp_path / "out", *films, "--codes.make", "false"))
    assert message == f"{story}: there is nothing to be made of it; leave it out"


@pytest.mark.parametrize("n", [3, 4])
def test_a_film_that_is_stored_often_is_told(folder, tmp_path, n):
    """Onsets that a computer logged differ by milliseconds, and each phase is a copy."""
    rows = ["subject\tstimulus\tfile\tonset_seconds"]
    for number in range(n):
        np.save(tmp_path / f"{number}.npy", np.zeros((12, 5), np.float32))
        rows.append(f"{number}\tone\t{number}.npy\t{1.5 - 0.011 * (number + 1):.4f}")
    (tmp_path / "scans.tsv").write_text("\n".join(rows) + "\n")
    words = ("--film", str(folder / "one.mp4"), "--text", "none", "--codes.make", "false")
    table = ("--scan.table", str(tmp_path / "scans.tsv"), "--scan.high_pass_seconds", "none")
    plan = make_plan(without_scans(folder, tmp_path / "out", *words, *table))
    assert len(plan.phases["one"]) == n
    told = [
        note for note in plan.notes if note.startswith(f"one is stored {n} times, as its scans")
    ]
    assert len(told) == (n > 3)
