"""Two short films with subtitles, arrays and scans, and the job that precomputes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.demo import DemoSettings, make_demo
from giblet_ray.errors import InputError
from giblet_ray.precompute import precompute as run

TR = 1.5
N_TRS = {"one": 9, "two": 14}
NAN_VOXELS, CONSTANT_VOXELS = 2, 3


def silent(line):
    """Take no notice of what a user is shown."""


def refusal(job):
    """Run a job that is refused; return its message, a line. Nothing has been written."""
    with pytest.raises(InputError) as caught:
        run.precompute(job, silent)
    message = str(caught.value)
    assert "\n" not in message
    assert not Path(job.out).is_dir() or not list(Path(job.out).rglob("*"))
    return message


def make_films(folder):
    """Write two films with subtitles and arrays (.npy of TRs, .tsv of samples); two subjects'
    scans, of which 02 has none of film two."""
    for seed, (name, n_trs) in enumerate(N_TRS.items()):
        made = make_demo(folder / name, DemoSettings(n_trs=n_trs, n_voxels=30, seed=seed))
        shutil.copy(made.film, folder / f"{name}.mp4")
        shutil.copy(made.subtitles, folder / f"{name}.srt")
        random = np.random.default_rng(seed)
        np.save(folder / f"{name}.npy", random.normal(size=(n_trs, 5)))
        gaze_N3 = np.c_[np.arange(10 * n_trs) * TR / 10, random.normal(size=(10 * n_trs, 2))]
        np.savetxt(folder / f"{name}.tsv", gaze_N3, "%.3f", "\t", header="time\tx\ty", comments="")
        for scan, subject in zip(made.scans, ("01", "02"), strict=True):
            shutil.copy(scan, folder / f"sub-{subject}_task-{name}_bold.nii.gz")
    shutil.copy(made.mask, folder / "mask.nii.gz")
    (folder / "sub-02_task-two_bold.nii.gz").unlink()
    spoil(folder / "sub-01_task-two_bold.nii.gz", made.mask)


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
