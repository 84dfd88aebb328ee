"""jobs/precompute.py on a user's command line: what it says, and what it cannot use."""

import shutil
from functools import partial

import av
import nibabel
import numpy as np
import pytest

from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.demo import DemoSettings, make_demo

N_TRS = 10


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A film of 10 TRs, subtitles, and two subjects' scans."""
    return make_demo(tmp_path_factory.mktemp("demo"), DemoSettings(n_trs=N_TRS, n_voxels=30))


def arguments(demo, out, **changes):
    settings = {
        "film": [demo.film],
        "text": [demo.subtitles],
        "bold": demo.scans,
        "mask": [demo.mask],
        "codes.weights": ["untrained"],
        "out": [out],
        **changes,
    }
    return [word for name, words in settings.items() for word in (f"--{name}", *map(str, words))]


@pytest.fixture
def refused(refusal):
    """Run the job in this process, which is to refuse what it is given; return its line."""
    return partial(refusal, "precompute.py")


@pytest.mark.slow
def test_what_was_made_is_told_kept_and_checked(say, refused, demo, tmp_path):
    out = tmp_path / "dataset"
    assert "5 shards, 0 kept" in say("precompute.py", *arguments(demo, out))
    assert "nothing to do" in say("precompute.py", *arguments(demo, out))
    said = say("precompute.py", "--out", out, "--check")
    for words in ("demo-film", "silent TRs", "units", "bytes", "are right"):
        assert words in said
    manifest = out / MANIFEST
    manifest.write_text(manifest.read_text().replace('"silent_trs": ', '"silent_trs": 1'))
    line = refused("--out", out, "--check")
    assert str(manifest) in line
    assert "does not match its checksum" in line


def test_check_lists_what_is_damaged(say, arrays_and_dataset, tmp_path):
    out = shutil.copytree(arrays_and_dataset[1].storage.root, tmp_path / "dataset")
    (out / "text/one.parquet").unlink()
    (out / "bold/02/two.parquet").write_bytes(b"")
    said = say("precompute.py", "--out", out, "--check", code=2)
    assert said.count("problem: ") == 2
    assert "2 problems" in said.splitlines()[-1]


# --- what is refused --------------------------------------------------------------------------


def test_a_missing_film(refused, demo, tmp_path):
    film = tmp_path / "film.mp4"
    line = refused(*arguments(demo, tmp_path / "out", film=[film]))
    assert line.startswith(f"error: {film}: no such file")


def test_no_film(refused, tmp_path):
    assert "--film is missing" in refused("--out", tmp_path / "out")


def test_a_film_without_audio(refused, demo, tmp_path):
    silent = tmp_path / "demo-film.mp4"
    with av.open(str(demo.film)) as source, av.open(str(silent), "w") as target:
        pictures = source.streams.video[0]
        copy = target.add_stream_from_template(pictures)
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    line = refused(*arguments(demo, tmp_path / "out", film=[silent]))
    assert str(silent) in line
    assert "no audio" in line


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_film(refused, demo, tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"demo-film{suffix}"
    with av.open(str(demo.film)) as source, av.open(str(whole), "w") as target:
        copies = {
            stream.index: target.add_stream_from_template(stream)
            for stream in (source.streams.video[0], source.streams.audio[0])
        }
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    line = refused(*arguments(demo, tmp_path / "out", film=[cut]))
    assert str(cut) in line
    assert "truncated" in line


def test_subtitles_past_the_films_end(refused, demo, tmp_path):
    late = tmp_path / "late.srt"
    late.write_text("1\n00:00:20,000 --> 00:00:21,000\nToo late\n")
    line = refused(*arguments(demo, tmp_path / "out", text=[late]))
    assert f"{late}, cue 1: 20 s to 21 s lies past the film's end" in line


def test_a_scan_of_another_length(refused, demo, tmp_path):
    scan = nibabel.load(demo.scans[0])
    short = tmp_path / "sub-01_short.nii.gz"
    nibabel.save(scan.slicer[..., :7], short)
    line = refused(*arguments(demo, tmp_path / "out", bold=[short]))
    for words in (str(short), "7 TRs", str(demo.film), "10 TRs", "--scan.crop_start_trs"):
        assert words in line


def test_a_transposed_scan(refused, demo, tmp_path):
    scan = tmp_path / "sub-01.npy"
    np.save(scan, np.ones((30, N_TRS), np.float32))
    words = arguments(demo, tmp_path / "out", bold=[scan])
    at = words.index("--mask")
    line = refused(*words[:at], *words[at + 2 :])
    assert f"{scan} has 30 TRs of 10 voxels" in line
    assert "transposed; (TRs, voxels) is expected" in line


def test_a_mask_of_another_shape(refused, demo, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4), np.uint8), np.eye(4)), mask)
    line = refused(*arguments(demo, tmp_path / "out", mask=[mask]))
    for words in (str(mask), "(2, 3, 4)", str(demo.scans[0])):
        assert words in line


def test_three_kbps_and_eight_codebooks(refused, demo, tmp_path):
    wrong = {"codes.bandwidth": ["3"], "codes.codebooks": ["8"]}
    line = refused(*arguments(demo, tmp_path / "out", **wrong))
    assert "bandwidth 3 kbps holds 4 codebooks" in line
