import io
import shutil
from pathlib import Path

import my_lab.motion
import numpy as np
import pytest
import small_networks
from claim_holder import holder
from my_lab.motion import Motion, MotionConfig
from ray.exceptions import RayActorError
from two_films import CONSTANT_VOXELS, N_TRS, NAN_VOXELS, TR, request, silent

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import MANIFEST, ScanKey, bold_column
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.storage import Storage, sha256_of_file
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.codes import cut_codes
from giblet_ray.features.embedder import load_embedder
from giblet_ray.features.mel import mel_per_tr
from giblet_ray.features.pretrained.network import weights_sha256
from giblet_ray.features.text import read_utterances
from giblet_ray.features.video import read_frames
from giblet_ray.features.words import spoken_per_tr, spoken_words
from giblet_ray.parts.part import FilmFiles, Prepared
from giblet_ray.parts.pretrained import Pretrained, PretrainedConfig
from giblet_ray.precompute import pipeline, resume
from giblet_ray.precompute import precompute as run
from giblet_ray.precompute.units import WORK
from giblet_ray.spaces.scan import ScanOptions, read_bold


def every_part(folder):
    """Settings that add to what is made anyway."""
    arrays = (f"clip={folder}/{{stimulus}}.npy", f"gaze={folder}/{{stimulus}}.tsv")
    own = ("--part", "my_lab.motion:Motion")
    filtered = ("--scan.high_pass_seconds", "12")  # the films are too short for 128 s
    network = ("--pretrained", f"dino={small_networks.of_images()}")
    layers = ("--part_settings", "motion.bands=3", "dino.layers=[2,4]")
    made = ("--mel.make", "--codes.codebooks", "4", "--array", *arrays)
    return (*made, *own, *network, *layers, *filtered)


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory, cluster):
    """A finished data set with every part, its job, and what was shown.

    Beside it is what its folder held besides until it was finished.
    """
    out = tmp_path_factory.mktemp("made") / "dataset"
    job = request(folder, out, *every_part(folder))
    shown, delete_work = [], resume.delete_work

    def move_work(storage):
        shutil.copytree(out / WORK, out.parent / WORK)
        delete_work(storage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "delete_work", move_work)
        summary = run.precompute(job, shown.append)
    return job, summary, shown


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the finished data set that may be damaged, and the job that makes it."""
    job, summary, _ = made
    out = tmp_path / "dataset"
    shutil.copytree(summary.dataset.storage.root, out)
    return job.model_copy(update={"out": str(out)}), out


@pytest.fixture
def interrupted(copied, made):
    """A copy of it as it was when all its shards were there and the manifest was not."""
    job, out = copied
    (out / MANIFEST).unlink()
    shutil.copytree(Path(made[0].out).parent / WORK, out / WORK)
    return job, out


def stored(dataset, part, stimulus, subject=None):
    selection = Selection(subjects=(subject,)) if subject else Selection(parts=(part,))
    column = bold_column(subject) if subject else part
    table = dataset.read(Span(stimulus, 0, N_TRS[stimulus]), selection)
    return as_arrays(table[column].combine_chunks(), dataset.value_type(column))


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
    words = spoken_words(read_utterances(folder / f"{film}.srt", n_trs * TR))
    spoken = spoken_per_tr(words, n_trs, TR)
    directions = load_embedder().embed([said.text for said in spoken])
    lengths = np.array([[said.n_words] for said in spoken], np.float32)
    np.testing.assert_array_equal(stored(dataset, "text", film), directions * lengths)
    assert dataset.stimuli[film].silent_trs == sum(said.text == "" for said in spoken)


@pytest.mark.parametrize("film", N_TRS)
def test_arrays_are_those_of_the_files(made, folder, film):
    dataset = made[1].dataset
    clip = np.load(folder / f"{film}.npy")
    np.testing.assert_array_equal(stored(dataset, "clip", film), clip.astype(np.float32))
    gaze = np.loadtxt(folder / f"{film}.tsv", skiprows=1)[:, 1:]  # ten samples per TR
    means = gaze.reshape(N_TRS[film], 10, 2).mean(axis=1)
    np.testing.assert_allclose(stored(dataset, "gaze", film), means, rtol=1e-5, atol=1e-6)
    assert dataset.manifest.parts["gaze"].settings == {"resampling": "mean"}
    source = dataset.stimuli[film].sources["gaze"]
    assert (source.name, source.sha256) == (f"{film}.tsv", sha256_of_file(folder / f"{film}.tsv"))


@pytest.mark.parametrize("film", N_TRS)
def test_a_part_of_a_labs_own_is_made_by_its_code(made, folder, film):
    dataset = made[1].dataset
    files = {"film": str(folder / f"{film}.mp4")}
    n_trs = N_TRS[film]
    motion = Motion("motion", MotionConfig(bands=3))
    film_files = FilmFiles(name=film, n_trs=n_trs, tr_seconds=TR, seconds=n_trs * TR, files=files)
    np.testing.assert_array_equal(stored(dataset, "motion", film), motion.make(film_files).values)
    part = dataset.manifest.parts["motion"]
    assert (part.kind, part.modality, part.encoder) == (Motion.kind, "motion", "vector")
    assert (part.settings, part.made_with) == ({"bands": 3}, {"bands": 3})
    assert part.libraries[Motion.kind] == sha256_of_file(my_lab.motion.__file__)


@pytest.mark.parametrize("film", N_TRS)
def test_layers_of_a_network_are_parts_that_say_what_it_is(made, folder, film):
    dataset, network = made[1].dataset, small_networks.of_images()
    files, n_trs = {"film": str(folder / f"{film}.mp4")}, N_TRS[film]
    film_files = FilmFiles(name=film, n_trs=n_trs, tr_seconds=TR, seconds=n_trs * TR, files=files)
    for layer in (2, 4):
        part = Pretrained(f"dino_{layer}", PretrainedConfig(model=str(network)))
        part.load(Prepared(), "cpu")
        found, made_alone = stored(dataset, part.name, film), part.make(film_files).values
        np.testing.assert_allclose(found, made_alone, atol=1e-5)
        said = dataset.manifest.parts[part.name]
        assert (said.kind, said.modality, said.encoder) == ("pretrained", part.name, "vector")
        assert said.made_with["weights_sha256"] == weights_sha256(network)
        facts = dataset.manifest.provenance["shards"][f"{part.name}/{film}.parquet"]["facts"]
        assert facts == {"licence": "not stated", "architecture": "dinov2"}


def test_codes_are_those_of_a_codec_seeded_from_the_films(made, codec, sounds):
    dataset = made[1].dataset
    made_with = dataset.manifest.parts["codes"].made_with
    assert made_with["weights_sha256"] == codec.checksum
    for film, n in N_TRS.items():
        codes = codec.encode([sounds[film]], 4, made[0].codes.chunk_seconds, 1.0)
        np.testing.assert_array_equal(stored(dataset, "codes", film), cut_codes(codes, n, TR))
    codebooks = np.load(io.BytesIO(dataset.part_blob("codes", "codebooks")))
    layers = codec.model.quantizer.vq.layers
    expected = np.stack([layers[codebook]._codebook.embed.cpu().numpy() for codebook in range(4)])
    np.testing.assert_array_equal(codebooks, expected)


def test_bold_is_that_of_the_scans_and_unusable_voxels_are_counted_and_said(made, folder):
    _, summary, shown = made
    assert set(summary.dataset.scans) == {
        ScanKey("01", "one"),
        ScanKey("02", "one"),
        ScanKey("01", "two"),
    }
    for subject, film, _ in summary.dataset.scans:
        scan = folder / f"sub-{subject}_task-{film}_bold.nii.gz"
        options = ScanOptions(high_pass_seconds=12)
        mask = folder / "mask.nii.gz"
        expected = read_bold(scan, mask, tr_seconds=TR, options=options)
        np.testing.assert_array_equal(stored(summary.dataset, "bold", film, subject), expected)
    scan = summary.dataset.scans[ScanKey("01", "two")]
    assert (scan.nan_units, scan.constant_units) == (NAN_VOXELS, CONSTANT_VOXELS)
    (note,) = [line for line in shown if "never change" in line]
    for word in ("01", "two", "2 units", "3 never"):
        assert word in note


def test_the_manifest_says_what_everything_was_made_of(made, folder):
    manifest = made[1].dataset.manifest
    assert manifest.parts["codes"].value.shape == (4, 112)
    assert manifest.stimuli[0].sources["film"].name == "one.mp4"
    provenance = manifest.provenance
    assert len(manifest.parts["codes"].made_with["weights_sha256"]) == 64
    assert manifest.parts["frames"].made_with["height"] == 90
    assert manifest.parts["text"].made_with["name"] == "hashing"
    assert provenance["bold"]["mask"][0]["name"] == "mask.nii.gz"
    assert provenance["bold"]["settings"]["high_pass_seconds"] == 12
    assert provenance["bold"]["fitted_to_whole_scans"] == ["high-pass"]
    assert made[1].rows()["high-pass"] == "12 s, by cosines over whole scans"
    assert {"av", "encodec", "torch"} <= manifest.parts["codes"].libraries.keys()
    for film in N_TRS:
        facts = provenance["shards"][f"codes/{film}.parquet"]["facts"]
        assert facts["chunk_agreement"] >= 0.99
        assert facts["weights"].startswith("untrained")


def test_nothing_but_the_data_set_is_left(made):
    storage = made[1].dataset.storage
    dataset = made[1].dataset
    listed = {file.path for file in (*dataset.shards, *dataset.manifest.blobs)}
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
        ("--frames.per_tr", "3"),
        ("--embedding.spread", "cue"),
        ("--codes.warmup_seconds", "2"),
        ("--scan.high_pass_seconds", "none"),
        ("--row_group_trs", "8"),
    ],
)
def test_a_finished_data_set_of_other_settings_is_refused(copied, folder, change):
    _, out = copied
    before = modified(out)
    job = request(folder, out, *every_part(folder), *change)
    with pytest.raises(InputError, match="another --out"):
        run.precompute(job, silent)
    assert modified(out) == before


def test_a_finished_data_set_of_fewer_films_is_refused(copied, folder):
    _, out = copied
    with pytest.raises(InputError, match=r"has .* too; give another --out"):
        run.precompute(request(folder, out, *every_part(folder), films=("one",)), silent)


def test_a_folder_that_another_process_works_on_is_left_to_it(folder, tmp_path):
    out = tmp_path / "dataset"
    with holder(str(out)):
        (out / "_work").mkdir()
        (out / "_work/shard.part").touch()
        with pytest.raises(InputError, match=r"dataset: another job works on it, .* another --out"):
            run.precompute(request(folder, out), silent)
        assert [path.name for path in (out / "_work").iterdir()] == ["shard.part"]


def test_an_interrupted_run_keeps_what_is_verified_and_makes_the_rest(interrupted, cluster):
    job, out = interrupted
    before = modified(out)
    gone, damaged = {"bold/01/two.parquet", "dino_4/one.parquet"}, "frames/one.parquet"
    for path in gone:
        (out / path).unlink()
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
    assert any("kept 18 of 21 shards" in line for line in shown)
    assert (summary.n_made, summary.n_kept) == (3, 18)
    after = modified(out)
    assert {path for path in after if after[path] != before[path]} == {*gone, damaged}
    assert after.keys() == before.keys()
    assert summary.dataset.manifest.checksum == Dataset.open(job.out).manifest.checksum
    assert not list(out.rglob("*.part"))


def test_an_interrupted_run_of_other_settings_makes_what_they_touch(interrupted, folder, cluster):
    _, out = interrupted
    before = modified(out)
    job = request(folder, out, *every_part(folder), "--scan.dtype", "float16")
    summary = run.precompute(job, silent)
    after = modified(out)
    changed = {path.partition("/")[0] for path in after if after[path] != before[path]}
    assert changed == {"bold"}
    assert summary.dataset.value_type("bold/01").dtype == "float16"


def test_a_damaged_shard_of_a_finished_data_set_is_made_again(copied, made, cluster):
    job, out = copied
    (out / "bold/02/one.parquet").write_bytes(b"")
    codebooks = made[1].dataset.manifest.parts["codes"].blobs["codebooks"]
    (out / codebooks).write_bytes(b"")
    before, shown = modified(out), []
    summary = run.precompute(job, shown.append)
    after = modified(out)
    assert {path for path in after if after[path] != before[path]} == {"bold/02/one.parquet"}
    assert any("1 of 21 shards" in line for line in shown)
    assert summary.dataset.blob(codebooks)  # whole again
    assert summary.dataset.manifest.checksum == made[1].dataset.manifest.checksum


def test_films_that_were_not_compared_are_compared_when_asked(copied, made, monkeypatch, cluster):
    job, out = copied
    apart = job.model_copy(update={"compare_films": False})
    found = made[1].dataset.manifest.provenance["same"]
    (out / "bold/02/one.parquet").write_bytes(b"")
    again = run.precompute(apart, print).dataset.manifest
    assert again.provenance["same"] == found  # by the data set that was mended
    unknown = again.model_copy(update={"provenance": {**again.provenance, "same": None}})
    write_manifest(Storage.at(str(out)), unknown)
    shown = []
    assert run.precompute(apart, shown.append).n_made == 0
    assert any("nothing to do" in line for line in shown)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "compare_films", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.precompute(job, shown.append)
    assert Dataset.open(str(out)).manifest == unknown  # whole until another takes its place
    summary = run.precompute(job, shown.append)
    assert summary.n_made == 0
    assert summary.dataset.manifest.checksum == made[1].dataset.manifest.checksum
    assert not any("damaged" in line for line in shown)


def test_an_edited_manifest_is_refused(copied):
    job, out = copied
    manifest = out / MANIFEST
    manifest.write_text(manifest.read_text().replace('"n_trs": 9', '"n_trs": 8'))
    with pytest.raises(InputError, match=r"does not match its checksum.*another --out"):
        run.precompute(job, silent)


def test_a_lost_worker_does_not_end_the_job(interrupted, monkeypatch, cluster):
    job, out = interrupted
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


# --- what only a worker can tell --------------------------------------------------------------


def with_scan(job, scan):
    """Put another scan in the place of subject 01's of film one."""
    return job.model_copy(update={"bold": (str(scan), *job.bold[1:])})


def test_a_damaged_scan_is_one_line_and_leaves_no_data_set(folder, tmp_path, interrupted, cluster):
    job, _ = interrupted
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


def test_bold_that_float16_cannot_hold_is_refused(folder, tmp_path, interrupted, cluster):
    _, out = interrupted
    array = tmp_path / "sub-01_task-one.npy"
    np.save(array, np.full((9, 30), 70_000, np.float32))
    job = request(folder, out, *every_part(folder), "--scan.dtype", "float16")
    with pytest.raises(InputError, match=r"70000.*65504.*--scan.dtype float32"):
        run.precompute(with_scan(job, array), silent)
