"""Sidecars of scans: their TR is the one that is set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from space_examples import EXAMPLES, N_TRS, TR_SECONDS

from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import ending_of_scan, files_of_scan
from giblet_ray.spaces.scan import ScanOptions, scan_shape


@pytest.mark.parametrize("kind", ["array", "volume", "surface", "grayordinates", "parcels"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"RepetitionTime": 2}', "RepetitionTime is 2, where 1.5 s is set"),
        ('{"RepetitionTime": "1.5"}', "RepetitionTime is 1.5, where 1.5 s is set"),
        ('{"RepetitionTime": 1.5', "is not readable JSON: Expecting"),
        ('{"RepetitionTime": 1.4999}', None),
        ('{"SkullStripped": false}', None),
        ("[1]", None),
    ],
)
def test_a_tr_that_is_not_the_sidecars_is_refused_unless_it_is_said_to_be_wrong(
    tmp_path: Path, kind: str, content: str, told: str | None
) -> None:
    example = EXAMPLES[kind](tmp_path)
    for file in map(Path, files_of_scan(example.scan)):
        sidecar = file.with_name(file.name.removesuffix(ending_of_scan(file)) + ".json")
        sidecar.write_text(content)
        if told is None:
            found = scan_shape(example.scan, **example.choosing, tr_seconds=TR_SECONDS)
            assert found[0] == N_TRS
        else:
            with pytest.raises(InputError, match=rf"^{re.escape(f'{sidecar}: {told}')}[^\n]*$"):
                scan_shape(example.scan, **example.choosing, tr_seconds=TR_SECONDS)
        options = ScanOptions(ignore_header_tr=True)
        scan_shape(example.scan, **example.choosing, tr_seconds=TR_SECONDS, options=options)
        sidecar.unlink()


def test_sidecars_are_named_as_bids_names_them(tmp_path: Path) -> None:
    for name, ending in {
        "sub-1_bold.nii.gz": ".nii.gz",
        "sub-1_hemi-L_bold.func.gii": ".func.gii",
        "sub-1_bold.dtseries.nii": ".dtseries.nii",
        "sub-1.npy": ".npy",
    }.items():
        assert ending_of_scan(tmp_path / name) == ending
