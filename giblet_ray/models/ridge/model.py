"""Ridge regression as a predictor: vectors of each part, their delays, weights of each unit.

Shapes: B windows, C TRs of context, W TRs of a window, N rows of BOLD of one subject, L delays,
F numbers of all vectors together, V units, P parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from giblet_ray.dataset.splits import whole_trs
from giblet_ray.errors import InputError
from giblet_ray.models.codebooks import CODEBOOKS
from giblet_ray.models.fitted import FittedPredictor, TrainingTrs
from giblet_ray.models.folds import gapped_folds
from giblet_ray.models.predictor import Shapes
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.models.ridge.delays import delayed, delayed_kernel, primal_weights
from giblet_ray.models.ridge.solve import choose, draw_weightings, himalaya_on, solved
from giblet_ray.models.training_rows import Target, TrainingRows
from giblet_ray.models.vectors import Vectors, build_vectors
from giblet_ray.progress import Progress, Show

MOST_ROWS = 2048
"""Training TRs that means and components are found from, evenly chosen."""


class Ridge(FittedPredictor):
    """Ridge, or banded ridge, with a finite impulse response.

    ::

        bold(t) = sum over delays d and parts p of  weights[:, d, p] @ vectors_p(t - d)

    Each subject, and each unit, is fitted for itself.

    Attributes
    ----------
    vectors : nn.ModuleDict
        What makes vectors of each part.
    weights : nn.ParameterList
        (V, L, F) of each subject; one, where all share them.
    alpha_0, bands_0, ... : Tensor
        (V,) and (V, P), regularisation of each unit and how it weighs the parts, likewise.
    """

    Settings = RidgeConfig
    tells_subjects_apart = True

    def __init__(self, settings: RidgeConfig, shapes: Shapes) -> None:
        super().__init__(settings, shapes)
        self._settings, self._subjects = settings, shapes.subjects
        self.may_lack = frozenset(shapes.lacking)
        units = list(shapes.units.values())
        self._fits = list(range(len(units)))
        if settings.subjects == "shared":
            self.tells_subjects_apart = False
            self._fits, units = [0] * len(units), [shapes.shared_units]
        self._delays = settings.delays(shapes.tr_seconds)
        self._gap_trs = whole_trs(settings.fold_gap_seconds, shapes.tr_seconds)
        by_codebooks = settings.codes == "codebooks"
        self.vectors = build_vectors(shapes, settings.components, by_codebooks)
        n_features = sum(each.n_features for each in self._vectors.values())
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(n, len(self._delays), n_features), requires_grad=False)
            for n in units
        )
        for index, n_units in enumerate(units):
            self.register_buffer(f"alpha_{index}", torch.zeros(n_units))
            self.register_buffer(f"bands_{index}", torch.zeros(n_units, len(self.parts)))

    @property
    def _vectors(self) -> dict[str, Vectors]:
        return dict(self.vectors.items())  # type: ignore[arg-type]  # it holds no others

    def forward(
        self,
        values: Mapping[str, Tensor],
        exists: Tensor,
        subject: Tensor,
        lacking: Mapping[str, Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """See :meth:`Predictor.forward`; a part that is lacking adds nothing, as at its mean."""
        self.check_parts(values.keys())
        n_trs = exists.shape[1] - self.context_trs
        # Half precision would round what was solved for.
        with torch.autocast(exists.device.type, enabled=False):
            vectors_BTF = self._vectors_of(values, exists, lacking or {})
            rows_BWK = delayed(vectors_BTF, self._delays, n_trs).flatten(2)
            return {
                index: rows_BWK[(subject == index).nonzero().flatten()]
                @ self.weights[self._fits[index]].flatten(1).T
                for index in subject.unique().tolist()
            }

    def _vectors_of(
        self, values: Mapping[str, Tensor], exists_BT: Tensor, lacking: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the vectors of all parts, (B, T, F); 0 where there is no row of one."""
        made = []
        for part, make in self._vectors.items():
            there_BT = exists_BT & ~lacking[part][:, None] if part in lacking else exists_BT
            if part in values:
                made.append(make(values[part]) * there_BT[:, :, None])
            else:
                made.append(torch.zeros(*there_BT.shape, make.n_features, device=there_BT.device))
        return torch.cat(made, dim=-1)

    @torch.no_grad()
    def keep_part(self, part: str) -> None:
        """Predict by one part alone from now on: what it adds to the prediction of all parts."""
        edges = itertools.accumulate(
            (each.n_features for each in self._vectors.values()), initial=0
        )
        for other, (start, stop) in zip(self.parts, itertools.pairwise(edges), strict=True):
            if other != part:
                for weights_VLF in self.weights:
                    weights_VLF[:, :, start:stop] = 0

    @torch.no_grad()
    def fit(self, training: TrainingTrs, show: Show) -> None:
        """See :meth:`FittedPredictor.fit`."""
        rows = TrainingRows(training, self._subjects, self._fits, self.context_trs)
        for part, each in self._vectors.items():
            if each.has_codebooks:
                each.take_codebooks(training.blob(part, CODEBOOKS))
        with Progress(show) as progress:
            progress.doing = "reading the TRs that means and components are found from"
            for part, raw_ND in rows.raw(self._vectors, MOST_ROWS).items():
                self._vectors[part].fit(raw_ND)
            progress.doing = "reading the training TRs"
            films_GF, targets = rows.read(self._vectors, [len(each) for each in self.weights])
            sizes = [f"{part} {each.n_features}" for part, each in self._vectors.items()]
            show(f"ridge: {', '.join(sizes)} numbers, at {len(self._delays)} delays each")
            for target in (part for whole in targets for part in whole.apart()):
                self._fit_target(films_GF, target, progress)

    def _fit_target(self, films_GF: Tensor, target: Target, progress: Progress) -> None:
        """Find the weights of subjects who have the same training TRs."""
        sizes = [each.n_features for each in self._vectors.values()]
        parts = films_GF.split(sizes, dim=1)
        at_N = torch.from_numpy(target.place_N).to(films_GF.device)
        progress.doing = f"kernels of {len(at_N):,} TRs"
        kernels_PNN = torch.stack([delayed_kernel(part, self._delays, at_N) for part in parts])
        settings = self._settings
        splits = self._folds(target)
        banded = settings.solver == "banded"
        with himalaya_on(films_GF.device):
            n_iter = settings.n_iter if banded else 1
            gammas = draw_weightings(n_iter, len(sizes), settings.seed)
            pairs = zip(self._subjects, self._fits, strict=True)
            names = ", ".join(name for name, index in pairs if index in target.units)

            def tried(n: int) -> None:
                progress.doing = f"{names}: {n} of {len(gammas)} weightings of the parts are tried"

            low, high = (math.log10(alpha) for alpha in settings.alphas)
            alphas = torch.logspace(low, high, settings.n_alphas)
            chosen = choose(kernels_PNN, target.bold_NV, splits, gammas, alphas, tried)
            for units_U, gamma_P, dual_NU in solved(kernels_PNN, target.bold_NV, chosen):
                weights = [
                    gamma * primal_weights(part, self._delays, at_N, dual_NU)
                    for gamma, part in zip(gamma_P, parts, strict=True)
                ]
                weights_ULF = torch.cat(weights, dim=2)
                for index, columns in target.units.items():
                    mine_U = (units_U >= columns.start) & (units_U < columns.stop)
                    units = target.numbers(index)[units_U[mine_U] - columns.start].to(
                        films_GF.device
                    )
                    self.weights[index][units] = weights_ULF[mine_U.to(films_GF.device)]
                    self.get_buffer(f"bands_{index}")[units] = gamma_P
        for index, columns in target.units.items():
            alpha_V = self.get_buffer(f"alpha_{index}")
            alpha_V[target.numbers(index).to(alpha_V.device)] = chosen.alpha_V[columns].to(alpha_V)

    def _folds(self, target: Target) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the folds that alphas are chosen by: all phases of a film are cut at its TRs."""
        n = self._settings.folds
        folds = gapped_folds(target.stimulus_N, target.tr_N, n, self._gap_trs)
        if not all(len(rows) for fold in folds for rows in fold):
            n_trs = len({*zip(target.stimulus_N.tolist(), target.tr_N.tolist(), strict=True)})
            raise InputError(
                f"--model.folds {n}: of {n_trs:,} training TRs, a fold with gaps of "
                f"{self._gap_trs} TRs leaves none to fit on, or has none; use fewer, or a smaller "
                "--model.fold_gap_seconds"
            )
        return folds
