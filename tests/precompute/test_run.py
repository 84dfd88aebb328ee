import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ray.exceptions import RayActorError

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset, Selection, Span, as_arrays, bold_column
from giblet_ray.dataset.schema import MANIFEST
from giblet_ray.dataset.storage import Storage
from giblet_ray.demo import make_demo
from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.bold import read_bold
from giblet_ray.features.codec import seed_untrained_codec
from giblet_ray.features.codes import cut_codes
from giblet_ray.features.embedder import load_embedder
from giblet_ray.features.mel import mel_per_tr
from giblet_ray.features.text import read_utterances, text_per_tr
from giblet_ray.features.video import read_frames
from giblet_ray.precompute import pipeline, resume, run, sound
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.provenance import records_of

TR = 1.5
N_TRS = {"one": 9, "two": 14}
NAN_VOXELS, CONSTANT_VOXELS = 2, 3


def silent(line):
    """Take no notice of what a user is shown."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two films with subtitles; two subjects' scans, of which 02 has none of film two."""
    folder = tmp_path_factory.mktemp("sources")
    for seed, (name, n_trs) in enumerate(N_TRS.items()):
        made = make_demo(folder / name, n_trs=n_trs, n_voxels=30, seed=seed)
        shutil.copy(made.film, folder / f"{name}.mp4")
        shutil.copy(made.subtitles, folder / f"{name}.srt")
        for scan, subject in zip(made.scans, ("01", "02"), strict=True):
            shutil.copy(scan, folder / f"sub-{subject}_task-{name}_bold.nii.gz")
    shutil.copy(made.mask, folder / "mask.nii.gz")
    (folder / "sub-02_task-two_bold.nii.gz").unlink()
    spoil(folder / "sub-01_task-two_bold.nii.gz", made.mask)
    return folder


def spoil(path, mask):
    scan = nibabel.load(path)
    values = scan.get_fdata(dtype=np.float32)
    inside = np.argwhere(nibabel.load(mask).get_fdata() > 0)
    for x, y, z in inside[:NAN_VOXELS]:
        values[x, y, z, 3] = np.nan
    for x, y, z in inside[-CONSTANT_VOXELS:]:
        values[x, y, z] = 7
    header = scan.header.copy()
    header.set_data_dtype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, scan.affine, header), path)


def request(folder, out, *changes, films=("one", "two")):
    """Return the job for the films and all their scans, with changed settings."""
    scans = sorted(str(scan) for film in films for scan in folder.glob(f"sub-*_task-{film}_*"))
    settings = {
        "--out": [str(out)],
        "--film": [str(folder / f"{film}.mp4") for film in films],
        "--text": [str(folder / f"{film}.srt") for film in films],
        "--bold": scans,
        "--mask": [str(folder / "mask.nii.gz")],
        "--scan.pattern": ["sub-{subject}_task-{stimulus}"],
        "--codes.weights": ["untrained"],
        "--row_group_trs": ["4"],
    }
    for word in changes:
        if word.startswith("--"):
            name = word
            settings[name] = []
        else:
            settings[name].append(word)
    return parse_job(PrecomputeJob, [word for name in settings for word in (name, *settings[name])])


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory, cluster):
    """A finished data set with every part, its job, and what was shown."""
    out = tmp_path_factory.mktemp("made") / "dataset"
    job = request(folder, out, "--codes.mel", "--codes.codebooks", "4")
    shown = []
    summary = run.precompute(job, shown.append)
    return job, summary, shown


@pytest.fixture(scope="module")
def sounds(folder):
    """Samples of each film's sound, (samples,)."""
    return {
        film: np.concatenate(list(read_audio(folder / f"{film}.mp4", duration_seconds=n * TR)))
        for film, n in N_TRS.items()
    }


@pytest.fixture(scope="module")
def codec(sounds):
    """The codec that a job makes of these films, which are shorter than it hears of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codec = seed_untrained_codec(np.concatenate(list(sounds.values())))
    torch.set_num_threads(threads)
    return codec


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the finished data set that may be damaged, and the job that makes it."""
    job, summary, _ = made
    out = tmp_path / "dataset"
    shutil.copytree(summary.dataset.storage.root, out)
    return job.model_copy(update={"out": str(out)}), out


def stored(dataset, part, stimulus, subject=None):
    selection = Selection(subjects=(subject,)) if subject else Selection(parts=(part,))
    column = bold_column(subject) if subject else part
    table = dataset.read(Span(stimulus, 0, N_TRS[stimulus]), selection)
    return as_arrays(table[column].combine_chunks(), dataset.manifest.values[part])


def modified(out):
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*.parquet")}


# --- what is made -----------------------------------------------------------------------------


@pytest.mark.parametrize("film", N_TRS)
def test_frames_mel_and_text_are_those_of_the_films(made, folder, film):
    dataset, path, n_trs = made[1].dataset, folder / f"{film}.mp4", N_TRS[film]
    np.testing.assert_array_equal(stored(dataset, "frames", film), read_frames(path, n_trs, TR))
    mel = mel_per_tr(read_audio(path, 24_000, duration_seconds=n_trs * TR), n_trs, TR)
    assert stored(dataset, "mel", film).dtype == np.float16
    np.testing.assert_allclose(stored(dataset, "mel", film), mel, rtol=1e-2)
    texts = text_per_tr(read_utterances(folder / f"{film}.srt", n_trs * TR), n_trs, TR)
    np.testing.assert_array_equal(stored(dataset, "text", film), load_embedder().embed(texts))
    n_silent = sum(text == "" for text in texts)
    assert dataset.stimuli[film].silent_trs == n_silent


def test_codes_are_those_of_a_codec_seeded_from_the_films(made, codec, sounds):
    dataset = made[1].dataset
    made_with = dataset.manifest.provenance["codes"]["made_with"]
    assert made_with["weights_sha256"] == codec.checksum
    for film, n in N_TRS.items():
        codes = codec.encode([sounds[film]], 4, made[0].codes.chunk_seconds, 1.0)
        np.testing.assert_array_equal(stored(dataset, "codes", film), cut_codes(codes, n, TR))


def test_bold_is_that_of_the_scans_and_unusable_voxels_are_counted_and_said(made, folder):
    _, summary, shown = made
    assert set(summary.dataset.scans) == {("01", "one"), ("02", "one"), ("01", "two")}
    for subject, film in summary.dataset.scans:
        scan = folder / f"sub-{subject}_task-{film}_bold.nii.gz"
        expected = read_bold(scan, folder / "mask.nii.gz", tr_seconds=TR)
        np.testing.assert_array_equal(stored(summary.dataset, "bold", film, subject), expected)
    scan = summary.dataset.scans["01", "two"]
    assert (scan.nan_voxels, scan.constant_voxels) == (NAN_VOXELS, CONSTANT_VOXELS)
    (note,) = [line for line in shown if "never change" in line]
    for word in ("01", "two", "2 voxels", "3 never"):
        assert word in note


def test_the_manifest_says_what_everything_was_made_of(made, folder):
    manifest = made[1].dataset.manifest
    assert manifest.values["codes"].shape == (4, 112)
    assert manifest.stimuli[0].sources["film"].name == "one.mp4"
    provenance = manifest.provenance
    assert len(provenance["codes"]["made_with"]["weights_sha256"]) == 64
    assert provenance["frames"]["made_with"]["height"] == 90
    assert provenance["text"]["made_with"]["name"] == "hashing"
    assert provenance["bold"]["mask"][0]["name"] == "mask.nii.gz"
    assert {"av", "encodec", "torch"} <= provenance["codes"]["libraries"].keys()
    for film in N_TRS:
        facts = provenance["shards"][f"codes/{film}.parquet"]["facts"]
        assert facts["chunk_agreement"] >= 0.99
        assert facts["weights"].startswith("untrained")


def test_nothing_but_the_data_set_is_left(made):
    storage = made[1].dataset.storage
    listed = {shard.path for shard in made[1].dataset.shards}
    assert set(storage.names()) == listed | {MANIFEST}
    assert not Path(storage.root, "_work").exists()


# --- started again ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_finished_data_set_is_left_as_it_is(copied, scheme):
    job, out = copied
    job = job.model_copy(update={"out": f"{scheme}{out}"})
    before, shown = modified(out), []
    summary = run.precompute(job, shown.append)
    assert modified(out) == before
    assert any("nothing to do" in line for line in shown)
    assert (summary.n_made, summary.n_kept) == (0, len(before))


@pytest.mark.parametrize(
    "change",
    [
        ("--frames.height", "45"),
        ("--codes.warmup_seconds", "2"),
        ("--scan.detrend",),
        ("--row_group_trs", "8"),
    ],
)
def test_a_finished_data_set_of_other_settings_is_refused(copied, folder, change):
    _, out = copied
    before = modified(out)
    job = request(folder, out, "--codes.mel", "--codes.codebooks", "4", *change)
    with pytest.raises(InputError, match="another --out"):
        run.precompute(job, silent)
    assert modified(out) == before


def test_a_finished_data_set_of_fewer_films_is_refused(copied, folder):
    _, out = copied
    with pytest.raises(InputError, match=r"has .* too; give another --out"):
        run.precompute(request(folder, out, "--codes.mel", films=("one",)), silent)


def test_an_interrupted_run_keeps_what_is_verified_and_makes_the_rest(copied, cluster):
    job, out = copied
    storage = Storage.at(str(out))
    before = modified(out)
    interrupt(storage)
    gone, damaged = "bold/01/two.parquet", "frames/one.parquet"
    (out / gone).unlink()
    content = bytearray((out / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (out / damaged).write_bytes(content)
    (out / "bold/01/one.parquet.12345678.part").write_bytes(b"cut off")
    (out / "bold/99").mkdir()
    (out / "bold/99/one.parquet").write_bytes(b"of a scan that was left out")
    with pytest.raises(InputError, match="no such file"):
        Dataset.open(str(out))
    shown = []
    summary = run.precompute(job, shown.append)
    assert any("kept 9 of 11 shards" in line for line in shown)
    assert (summary.n_made, summary.n_kept) == (2, 9)
    after = modified(out)
    assert {path for path in after if after[path] != before[path]} == {gone, damaged}
    assert after.keys() == before.keys()
    assert summary.dataset.manifest.checksum == Dataset.open(job.out).manifest.checksum
    assert not list(out.rglob("*.part"))


def test_an_interrupted_run_of_other_settings_makes_what_they_touch(copied, folder, cluster):
    _, out = copied
    before = modified(out)
    interrupt(Storage.at(str(out)))
    job = request(folder, out, "--codes.mel", "--codes.codebooks", "4", "--scan.dtype", "float16")
    summary = run.precompute(job, silent)
    after = modified(out)
    changed = {path.partition("/")[0] for path in after if after[path] != before[path]}
    assert changed == {"bold"}
    assert summary.dataset.manifest.values["bold"].dtype == "float16"


def interrupt(storage):
    """Take a finished data set back to where all its shards are there and the manifest is not."""
    dataset = Dataset.open(storage.location)
    resume.begin(storage)
    resume.reopen(storage, records_of(dataset.manifest))


def test_a_damaged_shard_of_a_finished_data_set_is_made_again(copied, made, cluster):
    job, out = copied
    (out / "bold/02/one.parquet").write_bytes(b"")
    before, shown = modified(out), []
    summary = run.precompute(job, shown.append)
    after = modified(out)
    assert {path for path in after if after[path] != before[path]} == {"bold/02/one.parquet"}
    assert any("1 of 11 shards" in line for line in shown)
    assert summary.dataset.manifest.checksum == made[1].dataset.manifest.checksum


def test_an_edited_manifest_is_refused(copied):
    job, out = copied
    manifest = out / MANIFEST
    manifest.write_text(manifest.read_text().replace('"n_trs": 9', '"n_trs": 8'))
    with pytest.raises(InputError, match=r"does not match its checksum.*another --out"):
        run.precompute(job, silent)


def test_a_lost_worker_does_not_end_the_job(copied, monkeypatch, cluster):
    job, out = copied
    interrupt(Storage.at(str(out)))
    (out / "bold/01/two.parquet").unlink()
    calls = []

    def lossy(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise RayActorError()
        return pipeline_run(*arguments)

    pipeline_run = pipeline.run
    monkeypatch.setattr(pipeline, "run", lossy)
    shown = []
    assert run.precompute(job, shown.append).n_made == 1
    assert len(calls) == 2
    assert any("lost" in line for line in shown)


# --- what is refused, before anything is made -------------------------------------------------


def refusal(job):
    with pytest.raises(InputError) as caught:
        run.precompute(job, silent)
    message = str(caught.value)
    assert "\n" not in message
    assert not Path(job.out).is_dir() or not list(Path(job.out).rglob("*"))
    return message


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


def test_two_scans_of_one_run_are_refused(folder, tmp_path):
    scan = str(folder / "sub-01_task-one_bold.nii.gz")
    again = shutil.copy(scan, tmp_path / "sub-01_task-one_again.nii.gz")
    message = refusal(request(folder, tmp_path / "out", "--bold", scan, str(again)))
    for word in (scan, str(again), "--scan.pattern"):
        assert word in message


def test_scans_of_another_length_than_their_film_are_refused(folder, tmp_path):
    scan = shutil.copy(folder / "sub-01_task-two_bold.nii.gz", tmp_path / "sub-01_task-one.nii.gz")
    message = refusal(request(folder, tmp_path / "out", "--bold", str(scan)))
    for words in (str(scan), "14 TRs", "one.mp4", "9 TRs", "crop_start_trs", "crop_stop_trs"):
        assert words in message


def test_scans_with_other_voxels_are_refused(folder, tmp_path):
    arrays = [tmp_path / f"sub-{subject}_task-one.npy" for subject in "12"]
    for array, n_voxels in zip(arrays, (10, 11), strict=True):
        np.save(array, np.ones((9, n_voxels), np.float32))
    job = request(folder, tmp_path / "out", "--bold", *map(str, arrays), films=("one",))
    message = refusal(job.model_copy(update={"mask": None}))
    assert f"{arrays[1]} has 11 voxels" in message
    assert f"{arrays[0]} has 10" in message


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


# --- what only a worker can tell --------------------------------------------------------------


def with_scan(job, scan):
    """Put another scan in the place of subject 01's of film one."""
    return job.model_copy(update={"bold": (str(scan), *job.bold[1:])})


def test_a_damaged_scan_is_one_line_and_leaves_no_data_set(folder, tmp_path, copied, cluster):
    job, out = copied
    interrupt(Storage.at(str(out)))
    scan = tmp_path / "sub-01_task-one.nii.gz"
    scan.write_bytes((folder / "sub-01_task-one_bold.nii.gz").read_bytes()[:-20])
    with pytest.raises(InputError) as caught:
        run.precompute(with_scan(job, scan), silent)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{scan}: is truncated or damaged" in message
    assert "Traceback" in caught.value.__notes__[0]
    with pytest.raises(InputError, match="no such file"):
        Dataset.open(job.out)
    assert run.precompute(job, silent).n_kept >= 10


def test_bold_that_float16_cannot_hold_is_refused(folder, tmp_path, copied, cluster):
    _, out = copied
    interrupt(Storage.at(str(out)))
    array = tmp_path / "sub-01_task-one.npy"
    np.save(array, np.full((9, 30), 70_000, np.float32))
    job = request(folder, out, "--codes.mel", "--codes.codebooks", "4", "--scan.dtype", "float16")
    with pytest.raises(InputError, match=r"70000.*65504.*--scan.dtype float32"):
        run.precompute(with_scan(job, array), silent)


# --- pieces of sound --------------------------------------------------------------------------


def codes_unit(folder, tmp_path, *changes):
    units = make_plan(request(folder, tmp_path / "out", *changes)).units
    return next(unit for unit in units if (unit.part, unit.stimulus) == ("codes", "one"))


def test_pieces_join_to_the_codes_of_the_whole_film(folder, tmp_path, codec, sounds, monkeypatch):
    monkeypatch.setattr(sound, "_LEAST_PIECE_SECONDS", 4.0)
    unit = codes_unit(folder, tmp_path, "--codes.chunk_seconds", "2")
    pieces = [piece for piece in sound.cut_pieces(unit) if not piece.measures_agreement]
    assert len(pieces) == 4
    codes_KT = np.concatenate([sound.encode_piece(codec, piece) for piece in pieces], axis=1)
    np.testing.assert_array_equal(codes_KT, codec.encode([sounds["one"]], 8, 2.0, 1.0))


@pytest.mark.parametrize("n_trs", [1, 2, 80, 333, 4800])
@pytest.mark.parametrize("warmup", [0.0, 1.0, 300.0])
def test_pieces_cover_a_film_once_and_are_few(folder, tmp_path, n_trs, warmup):
    unit = codes_unit(folder, tmp_path).model_copy(update={"n_trs": n_trs})
    unit.settings["warmup_seconds"] = warmup
    agreement, *pieces = sound.cut_pieces(unit)
    assert agreement.measures_agreement
    edges = [0, *(piece.stop_frame for piece in pieces)]
    assert [piece.start_frame for piece in pieces] == edges[:-1]
    assert edges[-1] == np.ceil(n_trs * 112.5)
    assert len(pieces) <= 17


def test_codes_that_depend_on_the_chunks_are_refused(folder, tmp_path):
    unit = codes_unit(folder, tmp_path)
    prepared = sound.PreparedCodec(recipe={}, file_sha256="", weights="", weights_sha256="")
    film = sound.FilmCodes(unit, prepared)
    with pytest.raises(InputError, match=r"98.0%.*99%.*--codes.warmup_seconds"):
        film.add(film.pieces[0], np.array(0.98))


# --- sharing a cluster ------------------------------------------------------------------------


@pytest.mark.parametrize("n_cpus", [1, 2, 3, 5, 7, 8, 16, 64])
@pytest.mark.parametrize("n_gpus", [0, 1, 2, 8])
@pytest.mark.parametrize("large", [False, True])
def test_all_kinds_of_work_fit_into_a_cluster_at_once(n_cpus, n_gpus, large):
    slots = pipeline.share_cluster(n_cpus, n_gpus, 40, 20, large)
    codecs, embedders = slots.codecs, slots.embedders
    assert codecs.size >= 1
    assert embedders.size >= 1
    tasks = 2
    assert (codecs.size + embedders.size + tasks) * slots.num_cpus <= n_cpus
    assert codecs.size * codecs.gpus + embedders.size * embedders.gpus <= n_gpus
    assert (codecs.gpus > 0) == (n_gpus > 0)
    assert (embedders.gpus > 0) == (n_gpus > 0 and large)


def test_no_more_actors_than_work():
    slots = pipeline.share_cluster(64, 0, 3, 0, False)
    assert (slots.codecs.size, slots.embedders.size) == (3, 0)
