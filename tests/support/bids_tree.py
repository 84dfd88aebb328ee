"""fMRIPrep's derivatives of a small made-up BIDS data set, in several spaces.

Subjects 01 to 03, sessions 1 and 2, a TR of 1.49 s. In session 1 run 1 is film one, and run 2 film
two; in session 2 run 1 is film one again. Subject 03 lacks run 2. Films begin 2 TRs into a run.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from scan_files import save, save_series, save_surfaces

TR = 1.49
LEAD_TRS, AFTER_TRS = 2, 4
FILM_TRS = {"one": 9, "two": 14}
SPACE = "MNI152NLin2009cAsym"
SHAPE = (5, 4, 3)
N_LEFT, N_RIGHT = 12, 13
MOTION = [
    f"{kind}_{axis}{more}"
    for kind in ("trans", "rot")
    for axis in "xyz"
    for more in ("", "_derivative1", "_power2", "_derivative1_power2")
]
OUTLIER = 5
"""Volume of every run in which the head moves."""
RUNS = [
    (subject, session, run, film)
    for subject in ("01", "02", "03")
    for session, run, film in (("1", "1", "one"), ("1", "2", "two"), ("2", "1", "one"))
    if (subject, run) != ("03", "2")
]


def make_tree(root: Path) -> Path:
    """Write ``root/raw`` with events and ``root/raw/derivatives/fmriprep``; return the latter."""
    derivatives = root / "raw/derivatives/fmriprep"
    random = np.random.default_rng(0)
    for subject, session, run, film in RUNS:
        stem = f"sub-{subject}_ses-{session}_task-movie_run-{run}"
        folder = Path(f"sub-{subject}", f"ses-{session}", "func")
        for each in (root / "raw" / folder, derivatives / folder):
            each.mkdir(parents=True, exist_ok=True)
        events = f"onset\tduration\tstim_file\n{LEAD_TRS * TR:g}\t20\tfilms/{film}.mp4\n"
        (root / "raw" / folder / f"{stem}_events.tsv").write_text(events)
        n_trs = LEAD_TRS + FILM_TRS[film] + AFTER_TRS
        _write_run(derivatives / folder, stem, subject, n_trs, random)
    return derivatives


def _write_run(
    folder: Path, stem: str, subject: str, n_trs: int, random: np.random.Generator
) -> None:
    volume = f"{folder}/{stem}_space-{SPACE}"
    save(Path(f"{volume}_desc-preproc_bold.nii.gz"), random.normal(100, 5, (*SHAPE, n_trs)),
         tr_seconds=TR)  # fmt: skip
    mask = np.ones(SHAPE)
    mask[0, 0, 0] = 0
    mask[-1, -1, int(stem[-1]) - 1] = 0  # another voxel in run 1 than in run 2
    save(Path(f"{volume}_desc-brain_mask.nii.gz"), mask)
    left = Path(f"{folder}/{stem}_hemi-L_space-fsaverage5_bold.func.gii")
    sides = (random.normal(100, 5, (n_trs, n)) for n in (N_LEFT, N_RIGHT))
    save_surfaces(left, *sides, tr_seconds=TR)
    cortex = nibabel.cifti2.BrainModelAxis.from_mask(np.ones(N_LEFT, bool), "CortexLeft")
    right = nibabel.cifti2.BrainModelAxis.from_mask(np.ones(N_RIGHT, bool), "CortexRight")
    series = Path(f"{folder}/{stem}_space-fsLR_den-91k_bold.dtseries.nii")
    save_series(series, random.normal(100, 5, (n_trs, N_LEFT + N_RIGHT)), cortex + right, TR)
    said = json.dumps({"RepetitionTime": TR, "SliceTimingCorrected": False})
    for name in (f"_space-{SPACE}_desc-preproc", "_hemi-L_space-fsaverage5", "_space-fsLR_den-91k"):
        (folder / f"{stem}{name}_bold.json").write_text(said)
    columns = {name: random.normal(size=n_trs) for name in MOTION}
    columns["framewise_displacement"] = np.full(n_trs, 0.1)
    columns["std_dvars"] = np.ones(n_trs)
    columns["framewise_displacement"][OUTLIER] = 2
    table = ["\t".join(columns)]
    for tr in range(n_trs):
        cells = {
            name: "n/a" if tr == 0 and ("derivative" in name or name[0] in "fs") else f"{row[tr]:g}"
            for name, row in columns.items()
        }
        table.append("\t".join(cells.values()))
    (folder / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(table) + "\n")
    (folder / f"{stem}_desc-confounds_timeseries.json").write_text("{}")
