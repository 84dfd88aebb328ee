"""The checkpoint of a stack: beside what every checkpoint has, its members' own files::

model.safetensors           weights of the members, for each unit
member-0.safetensors ...    weights of each member
member-0.json ...           its record: what it was trained on, how, and how far
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from giblet_ray.checkpoint.damage import file_checksum
from giblet_ray.checkpoint.files import VOXELS, writing
from giblet_ray.checkpoint.pieces import WEIGHTS, is_of_optimizer, load_weights
from giblet_ray.checkpoint.record import RECORD, Piece, Position, Record, RunRecord, write_record
from giblet_ray.checkpoint.store import Checkpoint
from giblet_ray.evaluation.unit_scores import HeldOutScores


def save_stack(
    folder: Path,
    members: Sequence[Checkpoint],
    weights: Mapping[str, Tensor],
    run: RunRecord,
    position: Position,
    held_out: HeldOutScores,
) -> None:
    """Write the checkpoint of a stack into an empty folder; one member is read at a time.

    Parameters
    ----------
    folder : Path
        Where to.
    members : sequence of Checkpoint
        In the order of the stack's settings; all of the same data, split and units.
    weights : mapping of str to Tensor
        What the stack has beside its members, by name in the model.
    run, position : RunRecord, Position
        What the stack is.
    held_out : HeldOutScores
        On validation TRs.

    Raises
    ------
    InputError
        If there is no room for it, or a member cannot be read.
    """
    first = members[0].record
    lies_in = {name: (Piece(file=WEIGHTS),) for name in weights}
    with writing(folder, "a stack"):
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS)
        scores = held_out.arrays()
        save_file({k: torch.from_numpy(v) for k, v in scores.items()}, folder / VOXELS)
        for index, member in enumerate(members):
            with member.files(member.record.weight_files) as local:
                own = {
                    f"members.{index}.{name}": value.contiguous()
                    for name, value in load_weights(local, member.record).items()
                }
                file = f"member-{index}.safetensors"
                save_file(own, folder / file)
                shutil.copy(local / RECORD, folder / f"member-{index}.json")
            lies_in |= {name: (Piece(file=file),) for name in own}
        own_files = {*first.weight_files, VOXELS, *filter(is_of_optimizer, first.checksums)}
        common = [name for name in first.checksums if name not in own_files]
        with members[0].files(common) as local:
            for name in common:
                shutil.copy(local / name, folder / name)
    write_record(
        folder,
        Record(
            **dict(run),
            scans=first.scans,
            position=position,
            score=position.history[-1][run.chosen_by.name],
            unsent=[],
            weights=lies_in,
            checksums={path.name: file_checksum(path) for path in sorted(folder.iterdir())},
        ),
    )
