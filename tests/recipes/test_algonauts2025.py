"""The Algonauts recipe, from the challenge's download layout to submissions, as its README says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from documentation import block_commands
from script import ROOT, run_script
from small_films import write_films

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset
from giblet_ray.prediction.formats.algonauts2025 import check_submission, read_submission

TR = 1.49
README = "recipes/algonauts2025/README.md"
FILMS = {
    **{f"friends/s1/friends_s01e{name}": 44 for name in ("01a", "02a")},
    **{f"friends/s6/friends_s06e{name}": 44 for name in ("01a", "17a", "18a")},
    **{"movie10/bourne/bourne01": 44, "movie10/life/life01": 44},
    **{"friends/s7/friends_s07e01a": 40, "friends/s7/friends_s07e01b": 43},
    **{"ood/chaplin/task-chaplin1_video": 41, "ood/wot/task-wot1_video": 45},
}
"""Film parts, and their TRs."""
TRAPS = ("friends/s1/friends_s01e01", "friends/s1/friends_s01e16_e17", "ood/wot/task-wot_video",
         "ood/passepartout/task-passepartoutS02E07_video")  # fmt: skip
SCANS = {
    "01": {"friends": {"ses-003_task-s01e01a": 45, "ses-001_task-s01e02a": 44,
                       "ses-040_task-s06e01a": 45, "ses-041_task-s06e17a": 44,
                       "ses-041_task-s06e18a": 45, "ses-009_task-s02e01a": 44},
           "movie10": {"ses-001_task-bourne01": 42, "ses-006_task-life01_run-1": 60,
                       "ses-010_task-life01_run-2": 44}},
    "02": {"friends": {"ses-002_task-s01e01a": 44, "ses-039_task-s06e01a": 45,
                       "ses-040_task-s06e17a": 46, "ses-040_task-s06e18a": 45},
           "movie10": {"ses-002_task-bourne01": 44, "ses-005_task-life01_run-1": 45,
                       "ses-011_task-life01_run-2": 45}},
}  # fmt: skip
"""TRs by subject, task and key; 02 lacks an episode, and 01 has one of a film that is not there."""
SAMPLES = {
    "friends-s7": {"01": {"s07e01a": 41, "s07e01b": 43}, "02": {"s07e01a": 40, "s07e01b": 60}},
    "ood": {"01": {"chaplin1": 41, "wot1": 45}, "02": {"chaplin1": 41, "wot1": 45}},
}
RESPONSE_TRS = 14
"""That follow a film: 20 s."""
SPACE = "space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net"
SHRUNK = {
    "jobs/precompute.py": ("--codes.make", "false", "--frames.height", "18",
                           "--frames.width", "32"),
    "jobs/train.py": ("--data.split.val_stimuli", "s06e01a", "--data.split.test_stimuli",
                      "s06e17a,s06e18a", "--train.epochs", "1", "--model.bottleneck_dim", "8",
                      "--data.modalities", "video,text", "--tracking.log_model", "false"),
    "jobs/evaluate.py": ("--permutations", "99", "--resamples", "100", "--ridge", "false"),
    "recipes/algonauts2025/score.py": ("--films", "s06e17a", "s06e18a"),
}  # fmt: skip
"""What is added to the README's commands."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project's root, with the challenge's download and runs of its own."""
    root = tmp_path_factory.mktemp("lab")
    (root / "recipes").symlink_to(ROOT / "recipes")
    make_download(root / "data/algonauts_2025.competitors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("GIBLET_RAY_TRACKING__URI", f"sqlite:///{root}/mlflow.db")
        yield root


def make_download(folder: Path) -> None:
    """Write made-up numbers in the layout of the download."""
    movies, transcripts = folder / "stimuli/movies", folder / "stimuli/transcripts"
    for film in (*FILMS, *TRAPS):
        (movies / film).parent.mkdir(parents=True, exist_ok=True)
    write_films(movies, {name: n * TR + 0.7 for name, n in FILMS.items()}, ".mkv")
    for trap in TRAPS:
        ending = ".mp4" if trap.endswith("wot_video") else ".mkv"
        (movies / f"{trap}{ending}").write_text("a whole film, which is not to be opened")
    for name, n in FILMS.items():
        write_transcript(transcripts, name, n)
    random = np.random.default_rng(0)
    labels = random.permutation(1728).reshape(12, 12, 12) % 1001
    atlas = nibabel.Nifti1Image(labels.astype(np.int16), np.diag([2, 2, 2, 1]))
    for subject, tasks in SCANS.items():
        own = folder / f"fmri/sub-{subject}"
        for name in ("atlas", "func", "target_sample_number"):
            (own / name).mkdir(parents=True)
        nibabel.save(atlas, own / f"atlas/sub-{subject}_{SPACE}_desc-dseg_parcellation.nii.gz")
        for task, scans in tasks.items():
            seasons = "_desc-s123456" * (task == "friends")
            file = own / f"func/sub-{subject}_task-{task}_{SPACE}{seasons}_bold.h5"
            with h5py.File(file, "w") as stream:
                for key, n in scans.items():
                    stream[key] = random.normal(size=(n, 1000)).astype(np.float32)
        for phase, of in SAMPLES.items():
            samples = own / f"target_sample_number/sub-{subject}_{phase}_fmri_samples.npy"
            np.save(samples, of[subject], allow_pickle=True)
    into_annex(folder)


def into_annex(folder: Path) -> None:
    """Leave links to files that are named by their content, as DataLad does."""
    annex = folder / ".git/annex/objects"
    annex.mkdir(parents=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, file in enumerate(files):
        size, ending = file.stat().st_size, "".join(file.suffixes)
        key = file.rename(annex / f"MD5E-s{size}--{number:032x}{ending}")
        file.symlink_to(os.path.relpath(key, file.parent))


def write_transcript(folder: Path, film: str, n_trs: int) -> None:
    """Write the words of a film, in the TR in which each ends; Chaplin says nothing."""
    collection, movie, name = film.split("/")
    if movie == "chaplin":
        return
    part = name.removeprefix("friends_").removeprefix("task-").removesuffix("_video")
    file = folder / collection / movie / f"{collection}_{part}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ["text_per_tr\twords_per_tr\tonsets_per_tr\tdurations_per_tr"]
    for tr in range(n_trs):
        word, onset = f"word{tr % 7}", round(tr * TR + 0.5, 2)
        said = tr % 3 != 0
        rows.append(f"{word}\t['{word}']\t[{onset}]\t[0.3]" if said else "\t[]\t[]\t[]")
    file.write_text("\n".join(rows) + "\n")


@pytest.fixture
def readme(lab: Path, cluster: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the one command of the README with these words; return what it printed."""

    def run(script: str, *marks: str) -> str:
        shown = [each.words for each in block_commands(README) if each.words[1] == script]
        (words,) = (
            each for each in shown if set(marks) <= set(each) and "--pretrained" not in each
        )
        capfd.readouterr()
        run_script(script, *words[2:], *SHRUNK.get(script, ()))
        said, error = capfd.readouterr()
        assert not error
        return said

    return run


@pytest.mark.heavy
def test_the_readme_s_commands_lead_from_the_download_to_submissions(
    lab: Path, readme: Callable[..., str]
) -> None:
    config = "recipes/algonauts2025"
    found = readme("jobs/precompute.py", f"{config}/precompute.yaml")
    assert "2 volumes after" in found
    check_dataset(Dataset.open("data/algonauts"))
    readme("jobs/precompute.py", "--check")
    found = readme("jobs/precompute.py", f"{config}/precompute_test.yaml")
    assert "chaplin1 is without text" in found
    films = set(Dataset.open("data/algonauts_test").stimuli)
    assert films == {"s07e01a", "s07e01b", "chaplin1", "wot1"}

    assert "nothing was chosen on" in readme("jobs/train.py")
    assert "test r, mean" in readme("jobs/evaluate.py")
    maps = nibabel.load("evaluation/algonauts/r-01.nii.gz")
    assert maps.shape[:3] == (12, 12, 12)

    said = readme("recipes/algonauts2025/score.py", "--samples")
    assert "sub-02_held_fmri_samples.npy: 91 samples of 2 runs" in said
    readme("jobs/predict.py", "predicted/held.zip")
    score = readme("recipes/algonauts2025/score.py", "--submission")
    assert -0.2 < float(score.rpartition("official score: ")[2].split()[0]) < 0.2

    for phase, out in (("friends-s7", "friends_s7"), ("ood", "ood")):
        file = f"predicted/fmri_predictions_{out}.zip"
        said = readme("jobs/predict.py", file)
        content = read_submission(file)
        check_submission(content, SAMPLES[phase])
        assert all(np.abs(bold).max() > 0 for of in content.values() for bold in of.values())
        record = json.loads(Path(file).with_suffix(".json").read_text())
        assert record["subjects"].keys() == {"01", "02"}
        assert ("predicted without text" in said) == (phase == "ood")
        assert ("s07e01b: 60 TRs are asked for, and the film has 43" in said) == (phase != "ood")


def check_dataset(dataset: Dataset) -> None:
    """Make sure that each scan is the one of its key, as far as it and its film go."""
    parts = {name.rpartition("/")[2].removeprefix("friends_"): n for name, n in FILMS.items()}
    trained = {name: n for name, n in parts.items() if "_video" not in name and "s07" not in name}
    assert {name: of.n_trs for name, of in dataset.stimuli.items()} == trained
    expected: dict[ScanKey, int] = {}
    for subject, tasks in SCANS.items():
        for key, n in (pair for scans in tasks.values() for pair in sorted(scans.items())):
            stimulus = key[13:].partition("_")[0]
            if stimulus in trained:
                repeat = 2 if key.endswith("_run-2") else 1
                expected[ScanKey(subject, stimulus, repeat)] = n
    stored = {(scan.subject, scan.stimulus, scan.repeat): scan for scan in dataset.manifest.scans}
    assert {key: scan.volumes for key, scan in stored.items()} == {
        key: (0, min(n, 44 + RESPONSE_TRS)) for key, n in expected.items()
    }
    assert {of.n_units for of in dataset.manifest.subjects.values()} == {1000}
    assert dataset.manifest.provenance["bold"]["settings"]["high_pass_seconds"] is None
