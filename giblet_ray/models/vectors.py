"""How the rows of a part become vectors: raw numbers per TR, then their principal components.

======= =========================================================== ========================
kind    raw numbers of a TR                                         vector
======= =========================================================== ========================
image   mean of each colour; luminance pooled to 9 x 16             colours, 20 components
        of several pictures per TR their mean, and motion: how      20 components of motion
        much luminance changes between one and the next, pooled
codes   how often each code occurs, codebook by codebook; or        40 components
        the mean of EnCodec's vectors of them, summed over codebooks
mel     mean of each band over the frames                           40 components
vector  itself                                                      itself, or 40 components
======= =========================================================== ========================

Means, scales and components are fitted on training TRs alone. A vector's numbers have mean 0 over
them and a variance of 1 in all, so that no part weighs more for having more numbers; components
keep the share of it that they have in the part, whose numbers are to have one unit. Pictures and
their motion each have half of it: motion is small beside light.

Shapes: N rows, n pictures of a TR, D raw numbers, F numbers of a vector, K codebooks, T frames,
C codes of all codebooks, E numbers of a code's vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.models._layers import ByPart
from giblet_ray.models.codebooks import CODE_NUMBERS, read_codebooks
from giblet_ray.models.predictor import Shapes
from giblet_ray.parts.reading import RGB
from giblet_ray.parts.value import ValueType

_POOLED = (9, 16)
_PLACES = _POOLED[0] * _POOLED[1]
_LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""
COMPONENTS = {"image": 20, "codes": 40, "mel": 40, "vector": 40}
AS_IT_IS = 256
"""Numbers of a vector that is taken as it is."""
_CONSTANT = 1e-6
"""Standard deviation that is the rounding of a constant, as a part of its size."""

HOW = (
    "pictures become their mean colour and components of luminance at 9 x 16 (and, of several per "
    "TR, of motion), codes components of "
    "their counts (--model.codes codebooks: of EnCodec's own vectors), mel components of its mean "
    "over frames, vectors themselves or components"
)


class _Block(NamedTuple):
    """Raw numbers that are reduced together: the first `kept` are taken as they are."""

    n_raw: int
    kept: int
    components: int


class Numbers(Protocol):
    """What has raw numbers of a part's rows."""

    mean_D: Tensor

    def raw(self, rows: Tensor) -> Tensor:
        """Return raw numbers (..., D) of rows (..., *shape), as a model is given them."""


class Vectors(nn.Module):
    """From the rows of one part to vectors: ``(raw - mean_D) @ basis_DF``.

    Parameters
    ----------
    encoder : str
        Kind of encoder that reads the part.
    value : ValueType
        What one row holds.
    components : int or None
        Principal components (None: see the table); of pictures and their motion, of each.
    by_codebooks : bool
        Codes are looked up in EnCodec's codebooks, see :meth:`take_codebooks`, not counted.
    """

    mean_D: Tensor
    basis_DF: Tensor
    codebooks_CE: Tensor

    def __init__(
        self,
        part: str,
        encoder: str,
        value: ValueType,
        components: int | None,
        by_codebooks: bool = False,
    ) -> None:
        super().__init__()
        self.part, self._encoder = part, encoder
        self.has_codebooks = by_codebooks and encoder == "codes"
        n_raw = value.shape[0] * (CODEBOOK_SIZE if encoder == "codes" else 1)
        if self.has_codebooks:
            self.register_buffer("codebooks_CE", torch.zeros(n_raw, CODE_NUMBERS))
            n_raw = CODE_NUMBERS
        reduced = _PLACES if encoder == "image" else n_raw
        n_components = min(components or COMPONENTS[encoder], reduced)
        if components is not None and components > reduced:
            raise InputError(
                f"--model.components {part}={components}: the part has {reduced} numbers per TR; "
                f"at most {reduced} are accepted ({HOW})"
            )
        if encoder == "image":
            self._blocks = [_Block(RGB + _PLACES, RGB, n_components)]
            if value.shape[0] > RGB:
                self._blocks.append(_Block(_PLACES, 0, n_components))
        elif components is None and encoder == "vector" and n_raw <= AS_IT_IS:
            self._blocks = [_Block(n_raw, n_raw, 0)]
        else:
            self._blocks = [_Block(n_raw, 0, n_components)]
        n_raw = sum(block.n_raw for block in self._blocks)
        self.n_features = sum(block.kept + block.components for block in self._blocks)
        self.register_buffer("mean_D", torch.zeros(n_raw))
        self.register_buffer("basis_DF", torch.zeros(n_raw, self.n_features))

    def forward(self, rows: Tensor) -> Tensor:
        """Return vectors (..., F) of rows (..., *shape), as a model is given them."""
        return (self.raw(rows) - self.mean_D) @ self.basis_DF

    def raw(self, rows: Tensor) -> Tensor:
        """Return raw numbers (..., D) of rows (..., *shape), as a model is given them."""
        if self._encoder == "image":
            return _of_pictures(rows.flatten(0, -4)).unflatten(0, rows.shape[:-3])
        if self._encoder == "codes":
            counts = _counts(rows)
            return counts @ self.codebooks_CE / rows.shape[-1] if self.has_codebooks else counts
        return rows.mean(-1) if self._encoder == "mel" else rows

    def take_codebooks(self, content: bytes) -> None:
        """Look codes up in codebooks, (K or more, 1024, 128), from an .npy file.

        Raises
        ------
        InputError
            If they are not EnCodec's.
        """
        n = len(self.codebooks_CE) // CODEBOOK_SIZE
        self.codebooks_CE.copy_(read_codebooks(content, n, self.part))

    @torch.no_grad()
    def fit(self, raw_ND: Tensor) -> None:
        """Find mean, scale and components.

        Parameters
        ----------
        raw_ND : Tensor
            (N, D) raw numbers of training TRs, on any device.

        Raises
        ------
        InputError
            If the part is the same at all of them.
        """
        values_ND = raw_ND.double().cpu()
        mean_D = values_ND.mean(0)
        std_D = spread_over_rows(values_ND)
        if not std_D.any():
            raise InputError(
                f"{self.part}/: is the same at all {len(raw_ND):,} training TRs that were looked "
                f"at, so that ridge has nothing to predict from: leave it out ({HOW})"
            )
        # Numbers that are kept may have any units, but shades, which have their components';
        # those that become components have one: networks' count by how much they vary.
        scale_D = torch.where(std_D > 0, 1 / std_D, 0) if self._encoder == "vector" else std_D > 0
        sizes = [block.n_raw for block in self._blocks]
        centred, scales = (values_ND - mean_D).split(sizes, dim=1), scale_D.double().split(sizes)
        each = zip(self._blocks, centred, scales, strict=True)
        bases = [_basis(*block) for block in each]
        n_varying = sum(bool(basis.any()) for basis in bases)
        self.mean_D.copy_(mean_D)
        self.basis_DF.copy_(torch.block_diag(*bases) / n_varying**0.5)


def _basis(block: _Block, centred_NB: Tensor, scale_B: Tensor) -> Tensor:
    """Return what makes vectors with a variance of 1 of centred raw numbers; 0 if all are 0."""
    kept = block.kept
    reduced_BF = principal_components(centred_NB[:, kept:], block.components)
    basis_BF = torch.block_diag(torch.diag(scale_B[:kept]), reduced_BF)
    if not scale_B.any():
        return torch.zeros_like(basis_BF)
    return basis_BF / (centred_NB @ basis_BF).square().mean(0).sum().sqrt()


def build_vectors(
    shapes: Shapes, components: Mapping[str, int], by_codebooks: bool = False
) -> nn.ModuleDict:
    """Return what makes vectors of each part, by part, not fitted yet.

    Raises
    ------
    InputError
        For components of a part that the model does not read, or more than it has numbers.
    """
    for part in components:
        if part not in shapes.parts:
            raise InputError(
                f"--model.components {part}: not among the parts that are read"
                f"{nearest(part, list(shapes.parts))}; {', '.join(shapes.parts)} are accepted"
            )
    return ByPart(
        {
            part: Vectors(part, encoder, shapes.values[part], components.get(part), by_codebooks)
            for part, encoder in shapes.encoders.items()
        }
    )


def spread_over_rows(values_ND: Tensor) -> Tensor:
    """Return the standard deviation of each number, (D,): 0 of one that is constant but for its
    rounding."""
    std_D = values_ND.std(0, correction=0)
    return torch.where(std_D <= _CONSTANT * values_ND.abs().amax(0), 0.0, std_D)


def principal_components(centred_ND: Tensor, n: int) -> Tensor:
    """Return the directions (D, n) in which centred rows vary most, each of length 1.

    What rows do not vary in has no direction: its column is 0. Signs are such that the largest
    number of each is positive.
    """
    n_rows, n_raw = centred_ND.shape
    if n == 0:
        return centred_ND.new_zeros(n_raw, 0)
    by_rows = n_rows <= n_raw
    gram = centred_ND @ centred_ND.T if by_rows else centred_ND.T @ centred_ND
    squares, directions = torch.linalg.eigh(gram)
    squares, directions = squares.flip(0)[:n], directions.flip(1)[:, :n]
    there = squares > 1e-10 * squares[:1].clamp(min=1e-30)
    if by_rows:
        directions = centred_ND.T @ directions / torch.where(there, squares, 1.0).sqrt()
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign() * there
    return nn.functional.pad(directions, (0, n - directions.shape[1]))


def _of_pictures(rows_NCHW: Tensor) -> Tensor:
    """Return the mean of each colour, then pooled luminance, (N, 3 + 9 * 16).

    Of several pictures these are the means over them, and pooled motion follows, 9 * 16 more: the
    mean over pixels and pairs of pictures, one after the other, of the absolute difference.
    """
    pictures_NnCHW = rows_NCHW.unflatten(1, (-1, RGB))
    is_one = pictures_NnCHW.shape[1] == 1  # whose mean would be a copy
    mean_NCHW = pictures_NnCHW[:, 0] if is_one else pictures_NnCHW.mean(1)
    pooled_NCHW = nn.functional.adaptive_avg_pool2d(mean_NCHW, _POOLED)
    weights_C = rows_NCHW.new_tensor(_LUMINANCE)
    luminance_NP = torch.einsum("nchw,c->nhw", pooled_NCHW, weights_C).flatten(1)
    raw = [mean_NCHW.mean((2, 3)), luminance_NP]
    if not is_one:
        luminance_NnHW = torch.einsum("nichw,c->nihw", pictures_NnCHW, weights_C)
        change_NHW = luminance_NnHW.diff(dim=1).abs().mean(1)
        raw.append(nn.functional.adaptive_avg_pool2d(change_NHW, _POOLED).flatten(1))
    return torch.cat(raw, dim=1)


def _counts(rows: Tensor) -> Tensor:
    """Return how often each code occurs, (..., K * 1024), of codes (..., K, T)."""
    counts = torch.zeros(*rows.shape[:-1], CODEBOOK_SIZE, device=rows.device)
    counts.scatter_add_(-1, rows, torch.ones_like(rows, dtype=counts.dtype))
    return counts.flatten(-2)
