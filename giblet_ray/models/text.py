"""The embedding of what is said during a TR -> a feature vector.

Shapes: B rows (one per TR), N length of the text embedding, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from giblet_ray.models._checks import require_floats, require_rate, require_shape, require_sizes
from giblet_ray.models._layers import Norm, hidden_layer, require_norm

HIDDEN_FEATURES = 512


class TextEncoder(nn.Module):
    """Two linear layers, input_dim -> 512 -> output_features, each BatchNorm, ReLU, dropout.

    Parameters
    ----------
    input_dim : int
        N, the length of the text embedding.
    output_features : int
        D, the length of the result.
    dropout : float
        Rate after each layer.
    norm : str
        How each layer is normalised; see :mod:`giblet_ray.models._layers`.

    Raises
    ------
    InputError
        For a size below 1, a rate outside [0, 1) or an unknown norm.
    """

    def __init__(
        self,
        input_dim: int = 1024,
        output_features: int = 256,
        dropout: float = 0.2,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        require_sizes(input_dim=input_dim, output_features=output_features)
        require_rate(dropout=dropout)
        require_norm(norm)
        self.input_dim = input_dim
        self.output_features = output_features
        self.layers = nn.Sequential(
            *hidden_layer(input_dim, HIDDEN_FEATURES, dropout, norm),
            *hidden_layer(HIDDEN_FEATURES, output_features, dropout, norm),
        )

    def forward(self, text_BN: Tensor) -> Tensor:
        """Encode text embeddings.

        Parameters
        ----------
        text_BN : Tensor
            (B, input_dim), floating point.

        Returns
        -------
        Tensor
            (B, output_features).

        Raises
        ------
        InputError
            For another shape or integer embeddings.
        """
        require_shape("text", text_BN, ("B", self.input_dim))
        require_floats("text", text_BN)
        features_BD: Tensor = self.layers(text_BN)
        return features_BD
