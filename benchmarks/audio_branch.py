"""What it costs to encode sound as EnCodec codes, beside mel, and beside multiplying every frame.

    python benchmarks/audio_branch.py --rows 64

Times the audio encoder at its defaults: forward alone, and with gradients. Codes are taken as the
encoder takes them (on a CPU it looks up what each code adds, where that pays), and embedded and
multiplied frame by frame; how far the two differ is printed first. Contenders take turns.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from machine import CONSOLE, cpu_model
from rates import Rates, compare, spread
from rich.table import Table
from target import Target, add_targets, tell
from torch import Tensor

from giblet_ray.models.audio import AudioEncoder

MEL, CODES, MULTIPLIED = "mel", "codes", "codes, multiplied"
_CODEBOOKS, _FRAMES = 8, 112


class Branches:
    """The encoders and their inputs.

    Parameters
    ----------
    n_rows : int
        TRs in a batch.
    device : torch.device
        Where they are.
    """

    def __init__(self, n_rows: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self._device = device
        self._mel = AudioEncoder().to(device)
        self._codec = AudioEncoder(use_encodec=True).to(device)
        n_mels, n_codes = self._mel.input_mels, self._codec.vocab_size
        self._mels = torch.randn(n_rows, n_mels, self._mel.frames_per_tr, device=device)
        shape = n_rows, _CODEBOOKS, _FRAMES
        self._codes = torch.randint(0, n_codes, shape, dtype=torch.int16, device=device)

    def ways(self) -> dict[str, Callable[[], Tensor]]:
        """Ways to encode the batch, (rows, features)."""
        return {
            MEL: lambda: self._mel(self._mels),
            CODES: lambda: self._codec(self._codes),
            MULTIPLIED: self._multiplied,
        }

    def _multiplied(self) -> Tensor:
        codec, frames = self._codec, self._codec.embed_codes(self._codes)
        maxima = [codec.pool(branch(frames)).squeeze(-1) for branch in codec.branches]
        features: Tensor = codec.projection(torch.cat(maxima, dim=1))
        return features

    def forward(self, way: Callable[[], Tensor], _: int) -> int:
        """Encode without gradients; return the rows."""
        with torch.no_grad():
            return self._finished(way())

    def step(self, way: Callable[[], Tensor], _: int) -> int:
        """Encode, and find gradients; return the rows."""
        features = way()
        features.square().mean().backward()
        return self._finished(features)

    def _finished(self, features: Tensor) -> int:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return len(features)

    def differences(self) -> list[float]:
        """Return the largest difference between codes' two ways, of features, and of gradients of
        the embedding and of the convolutions' weights, in units of the largest number of each."""
        codec = self._codec
        kernels = [branch.get_parameter("0.weight") for branch in codec.branches]
        learned = [codec.code_embedding.weight, *kernels]
        found = []
        for name in (CODES, MULTIPLIED):
            torch.manual_seed(1)  # of dropout
            features = self.ways()[name]()
            gradients = torch.autograd.grad(features.square().mean(), learned)
            found.append((features.detach(), *gradients))
        one_by_one = zip(*found, strict=True)
        of_features, *of_gradients = (
            float((one - other).abs().max() / other.abs().max()) for one, other in one_by_one
        )
        return [of_features, max(of_gradients)]


def measure(n_rows: int, device: torch.device, repeats: int) -> list[Target]:
    """Time, print, and return what was promised."""
    branches = Branches(n_rows, device)
    of_features, of_gradients = branches.differences()
    CONSOLE.print(
        f"codes and codes, multiplied, differ by {of_features:.1e} of the largest feature and "
        f"{of_gradients:.1e} of the largest gradient"
    )
    targets = []
    for title, run in (("forward", branches.forward), ("with gradients", branches.step)):
        contenders: dict[str, Callable[[int], int]]
        contenders = {name: partial(run, way) for name, way in branches.ways().items()}
        rates = compare(contenders, repeats)
        _print_times(f"{title}, {n_rows} TRs", rates, n_rows)
        if title == "forward":
            targets.append(_share_of_mel(rates, n_rows))
    return targets


def _share_of_mel(rates: dict[str, Rates], n_rows: int) -> Target:
    shares = rates[MEL].over(rates[CODES])
    what = f"audio branch, {n_rows} TRs: time of codes / of mel, forward"
    return Target(5, what, statistics.median(shares), 0.6, False, (min(shares), max(shares)))


def _print_times(title: str, rates: dict[str, Rates], n_rows: int) -> None:
    table = Table("", "ms", "time / of mel", "time / of multiplied", title=title)
    for name, rate in rates.items():
        beside = (spread(rates[other].over(rate)) for other in (MEL, MULTIPLIED))
        table.add_row(name, f"{1e3 * n_rows / rate.median:,.1f}", *beside)
    CONSOLE.print(table)


def main() -> None:
    """Parse, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64, help="TRs in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after one to warm up")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    add_targets(parser)
    given = parser.parse_args()
    CONSOLE.print(f"{cpu_model()}, {torch.get_num_threads()} threads; {given.device}")
    tell(measure(given.rows, given.device, given.repeats), given.targets)


if __name__ == "__main__":
    main()
