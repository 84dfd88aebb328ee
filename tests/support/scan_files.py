"""Small scans as files, in the names that fMRIPrep gives them."""

from pathlib import Path

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


def save_surfaces(left, left_TN, right_TN, tr_seconds=TR_SECONDS, intent="time series"):
    """Save a pair of GIFTI files as FreeSurfer does; return that of the left hemisphere."""
    right = Path(str(left).replace("hemi-L", "hemi-R"))
    sides = {left: (left_TN, "CortexLeft"), right: (right_TN, "CortexRight")}
    for path, (rows_TN, structure) in sides.items():
        meta = {"TimeStep": f"{1000 * tr_seconds:f}"}
        arrays = [
            nibabel.gifti.GiftiDataArray(row_N, intent, "NIFTI_TYPE_FLOAT32", meta=meta)
            for row_N in np.asarray(rows_TN, np.float32)
        ]
        about = nibabel.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure})
        nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays, meta=about), path)
    return left


def save_series(path, bold_TV, models, tr_seconds=TR_SECONDS, unit="SECOND"):
    """Save a CIFTI dense series of brain models."""
    series = nibabel.cifti2.SeriesAxis(0, tr_seconds, len(bold_TV), unit)
    image = nibabel.Cifti2Image(np.asarray(bold_TV, np.float32), header=(series, models))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nibabel.save(image, path)
    return path


def save_surface_labels(left, left_N, right_N, names):
    """Save a pair of GIFTI label images; return that of the left hemisphere."""
    right = Path(str(left).replace("hemi-L", "hemi-R"))
    for path, labels_N in ((left, left_N), (right, right_N)):
        array = nibabel.gifti.GiftiDataArray(labels_N.astype(np.int32), "label", "NIFTI_TYPE_INT32")
        table = nibabel.gifti.GiftiLabelTable()
        for number, name in {0: "???", **names}.items():
            label = nibabel.gifti.GiftiLabel(number)
            label.label = name
            table.labels.append(label)
        nibabel.save(nibabel.gifti.GiftiImage(darrays=[array], labeltable=table), path)
    return left


def save_dense_labels(path, labels_V, models, names):
    """Save a CIFTI label image of brain models."""
    table = {number: (name, (1, 0, 0, 1)) for number, name in {0: "???", **names}.items()}
    axes = nibabel.cifti2.LabelAxis(["atlas"], table), models
    nibabel.save(nibabel.Cifti2Image(labels_V[None].astype(np.int32), header=axes), path)
    return path
