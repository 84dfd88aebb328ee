"""One video frame per TR, or several in order -> a feature vector.

Shapes: B rows (one per TR), n frames of a TR, C colour channels of all of them, H height and W
width in pixels, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from giblet_ray.models._checks import require_floats, require_rate, require_shape, require_sizes
from giblet_ray.models._layers import Norm, normalised_channels, require_norm
from giblet_ray.models.linear import Linear
from giblet_ray.parts.reading import RGB

CONVOLUTION_CHANNELS = (32, 64, 128, 256)


class VideoEncoder(nn.Module):
    """Four strided convolutions and a linear layer over one frame, or several side by side.

    ::

        (B, 3 n, 90, 160) -> (B, 32, 45, 80) -> (B, 64, 23, 40) -> (B, 128, 12, 20)
                          -> (B, 256, 6, 10) -> flatten -> (B, output_features)

    Each convolution is 3x3 with stride 2 and padding 1, so that a side of s pixels leaves
    ceil(s / 2), and is followed by BatchNorm and ReLU; the linear layer by dropout and ReLU.

    Parameters
    ----------
    input_height, input_width : int
        Size of a frame, pixels.
    output_features : int
        D, the length of the result.
    dropout : float
        Rate after the linear layer.
    frames_per_tr : int
        n. The first convolution sees the frames of a TR as further channels, each by its place, so
        that what differs between them (motion) is within its reach; 1 is one frame.
    norm : str
        How the convolutions' results are normalised; see :mod:`giblet_ray.models._layers`.

    Raises
    ------
    InputError
        For a size below 1, a rate outside [0, 1) or an unknown norm.
    """

    def __init__(
        self,
        input_height: int = 90,
        input_width: int = 160,
        output_features: int = 1024,
        dropout: float = 0.2,
        frames_per_tr: int = 1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        require_sizes(
            input_height=input_height,
            input_width=input_width,
            output_features=output_features,
            frames_per_tr=frames_per_tr,
        )
        require_rate(dropout=dropout)
        require_norm(norm)
        self.input_height = input_height
        self.input_width = input_width
        self.output_features = output_features
        self.frames_per_tr = frames_per_tr

        layers: list[nn.Module] = []
        channels, height, width = frames_per_tr * RGB, input_height, input_width
        for out_channels in CONVOLUTION_CHANNELS:
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, stride=2, padding=1),
                *normalised_channels(out_channels, norm, axes=2),
            ]
            channels, height, width = out_channels, (height + 1) // 2, (width + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Sequential(
            Linear(channels * height * width, output_features),
            nn.Dropout(dropout),
            nn.ReLU(),
        )

    def forward(self, frames_BCHW: Tensor) -> Tensor:
        """Encode frames.

        Parameters
        ----------
        frames_BCHW : Tensor
            (B, frames_per_tr * 3, input_height, input_width), floating point; channels 0 to 2 are
            those of the TR's first frame.

        Returns
        -------
        Tensor
            (B, output_features).

        Raises
        ------
        InputError
            For another shape or integer frames.
        """
        channels = self.frames_per_tr * RGB
        require_shape("video", frames_BCHW, ("B", channels, self.input_height, self.input_width))
        require_floats("video", frames_BCHW)
        features_BD: Tensor = self.projection(self.convolutions(frames_BCHW).flatten(1))
        return features_BD
