"""Films that begin at any time of a scan, beside the same films and scans cut by hand."""

from fractions import Fraction

import av
import numpy as np
import pytest
from precompute_here import precompute_here

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.layout import ScanKey, bold_labels, stimulus_labels

TR, FPS, RATE, SECONDS = 1.5, 20, 24_000, 12
CUT_SECONDS = 0.9
"""Of the film: its first 0.6 s pass before the second volume begins, the rest of a TR after."""
N_TRS, N_CUT = 8, 7
CUES = ((1.0, 2.2, "Hello John"), (4.0, 4.4, "Look"), (7.0, 10.5, "there it goes again and again"))
pytestmark = pytest.mark.slow  # EnCodec encodes four films

PARTS = ("frames", "mel", "sound", "text", "gaze")


def write_film(path, pictures_NHW, sound_N):
    """Write pictures and sound without loss."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=FPS)
        video.height, video.width = pictures_NHW.shape[1:]
        video.pix_fmt = "gray"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for i, picture_HW in enumerate(pictures_NHW):
            frame = av.VideoFrame.from_ndarray(picture_HW, format="gray")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for start in range(0, len(sound_N), 1024):
            block = sound_N[None, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate = RATE
            frame.pts, frame.time_base = start, Fraction(1, RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())


def write_source(folder, first_seconds):
    """Write a film from a time of it on, what is said in it, and an array of its samples."""
    folder.mkdir()
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (SECONDS * FPS, 32, 48), np.uint8)
    sound = random.integers(-9000, 9000, SECONDS * RATE).astype(np.int16)
    cut = round(first_seconds * FPS), round(first_seconds * RATE)
    write_film(folder / "film.mkv", pictures[cut[0] :], sound[cut[1] :])
    rows = [
        f"{on - first_seconds:.3f}\t{off - first_seconds:.3f}\t{said}" for on, off, said in CUES
    ]
    (folder / "film.tsv").write_text("\n".join(["onset\toffset\ttext", *rows]) + "\n")
    times = np.arange(0, SECONDS, 0.1) + 0.05
    gaze = np.c_[times - first_seconds, random.normal(size=(len(times), 2))]
    gaze = gaze[gaze[:, 0] > 0]
    np.savetxt(folder / "gaze.tsv", gaze, "%.6f", "\t", header="time\tx\ty", comments="")


def job(folder, out, *words):
    return parse_job(
        PrecomputeJob,
        [
            *("--out", str(out), "--film", str(folder / "film.mkv")),
            *("--text", str(folder / "film.tsv"), "--array", f"gaze={folder / 'gaze.tsv'}"),
            *("--codes.weights", "untrained", "--mel.make", "--sound.make"),
            *("--row_group_trs", "4", "--scan.high_pass_seconds", "8"),
            *map(str, words),
        ],
    )


@pytest.fixture(scope="module")
def bold():
    """What was measured: 1 from a TR that the film begins 0.6 s after, 2 with a lead-in of 4."""
    random = np.random.default_rng(1)
    return {
        name: random.normal(100, 1, (n, 6)).astype(np.float32)
        for name, n in {"1": 1 + N_CUT, "2": 4 + N_TRS}.items()
    }


@pytest.fixture(scope="module")
def onsets(tmp_path_factory, bold):
    """The data set of the film and both scans as they were measured."""
    folder = tmp_path_factory.mktemp("onsets")
    write_source(folder / "film", 0)
    for name, bold_TV in bold.items():
        np.save(folder / f"sub-{name}.npy", bold_TV)
    table = folder / "scans.tsv"
    table.write_text("subject\tstimulus\tonset_seconds\n1\tfilm\t0.6\n2\tfilm\t6\n")
    scans = [folder / f"sub-{name}.npy" for name in bold]
    return precompute_here(
        job(folder / "film", folder / "out", "--bold", *scans, "--scan.table", table)
    )


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory, bold):
    """A data set of each scan, with the film and the scan cut so that they begin together."""
    folder = tmp_path_factory.mktemp("by_hand")
    datasets = {}
    for name, (first_seconds, first) in {"1": (CUT_SECONDS, 1), "2": (0, 4)}.items():
        write_source(folder / name, first_seconds)
        np.save(folder / f"sub-{name}.npy", bold[name][first:])
        cut = job(folder / name, folder / f"out-{name}", "--bold", folder / f"sub-{name}.npy")
        datasets[name] = precompute_here(cut)
    return datasets


def rows_of(dataset, part, phase):
    found = dataset.stimuli["film"].phases[phase]
    labels = stimulus_labels(part, "film", phase)
    rows = dataset.read_shard(found.shards[part], labels, found.n_trs, 0, found.n_trs)
    return as_arrays(rows, dataset.value_type(part))


def test_the_film_is_stored_for_each_time_that_it_is_seen_at(onsets):
    phases = onsets.stimuli["film"].phases
    assert [(phase.seconds, phase.n_trs) for phase in phases] == [(0, N_TRS), (CUT_SECONDS, N_CUT)]
    found = {scan.subject: scan for scan in onsets.manifest.scans}
    seen = {name: (scan.volumes, scan.onset_seconds, scan.phase) for name, scan in found.items()}
    assert seen == {"1": ((1, 1 + N_CUT), -CUT_SECONDS, 1), "2": ((4, 4 + N_TRS), 0, 0)}
    assert not check_dataset(onsets.storage.location).problems
    cut = onsets.manifest.provenance["bold"]["cut"]
    assert cut == {
        "sub 1, film": {"volumes before": 1},
        "sub 2, film": {"volumes before": 4},
    }


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("subject", "phase"), [("1", 1), ("2", 0)])
def test_rows_are_those_of_the_film_cut_by_hand(onsets, by_hand, subject, phase, part):
    found, expected = rows_of(onsets, part, phase), rows_of(by_hand[subject], part, 0)
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_codes_are_those_of_the_film_cut_later(onsets):
    """TR 0 of phase 1 begins at code frame 68 of 75 in a second, TR 1 of phase 0 at 112."""
    whole, later = rows_of(onsets, "codes", 0), rows_of(onsets, "codes", 1)
    assert later.shape == (N_CUT, 8, 112)
    np.testing.assert_array_equal(later[0, :, :44], whole[0, :, 68:])
    np.testing.assert_array_equal(later[0, :, 44:], whole[1, :, :68])


@pytest.mark.parametrize("subject", ["1", "2"])
def test_bold_is_that_of_the_scan_cut_by_hand(onsets, by_hand, subject):
    values = []
    for dataset in (onsets, by_hand[subject]):
        (scan,) = (each for each in dataset.manifest.scans if each.subject == subject)
        labels = bold_labels(ScanKey(subject, "film"))
        rows = dataset.read_shard(scan.shard, labels, scan.n_trs, 0, scan.n_trs)
        values.append(as_arrays(rows, dataset.value_type(f"bold/{subject}")))
    np.testing.assert_array_equal(*values)
