"""Small scans as files, in the names that fMRIPrep gives them."""

import nibabel
import numpy as np

TR_SECONDS = 1.5
SHAPE, N_TRS = (7, 5, 4), 23
AFFINE = np.array([[3.0, 0, 0, -9], [0, 3, 0, -6], [0, 0, 3, -3], [0, 0, 0, 1]])
FMRIPREP_SCAN = "sub-01_task-film_run-1_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
FMRIPREP_TABLE = "sub-01_task-film_run-1_desc-confounds_timeseries.tsv"


def save(path, values, affine=AFFINE, tr_seconds=TR_SECONDS, unit="sec", dtype=np.float32):
    image = nibabel.Nifti1Image(np.asarray(values, dtype), affine)
    if image.ndim == 4:
        image.header.set_zooms((3, 3, 3, tr_seconds))
        image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, path)
    return path
