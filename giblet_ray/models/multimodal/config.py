"""Settings of the multimodal encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from giblet_ray.models.config import ModelSettings
from giblet_ray.settings import Mark, none_by_word, tuple_of_one

LINEAR_HEAD_DECAY = 30.0
"""What docs/science.md is measured with, at learning rates of 3e-3 and 6e-3."""


def _widths(value: Any) -> Any:
    """Take one width, or the word none where there is no layer."""
    words = tuple_of_one(value)
    return () if [none_by_word(word) for word in words] == [None] else words


class MultimodalConfig(ModelSettings):
    """The multimodal encoder."""

    leading: ClassVar[dict[str, str]] = {"codes": "audio_codebooks"}
    kind: str = "multimodal"
    """multimodal, ridge, or the import path of a model of your own, such as my_lab.models:Gru."""
    embed_dim: int = Field(64, ge=1)
    """Dimensions of one EnCodec code's embedding."""
    audio_codebooks: Annotated[int, Mark.READ] = Field(8, ge=1)
    """EnCodec codebooks that the model hears: the first ones of those in the data set."""
    kernel_sizes: Annotated[tuple[int, ...], BeforeValidator(tuple_of_one)] = (3, 5, 7)
    """Widths of the audio convolutions, one branch each; odd, in code (or mel) frames."""
    video_features: int = Field(1024, ge=1)
    """Outputs of the video encoder."""
    audio_features: int = Field(256, ge=1)
    """Outputs of the audio encoder."""
    text_features: int = Field(256, ge=1)
    """Outputs of the text encoder."""
    vector_features: int = Field(256, ge=1)
    """Outputs of the encoder of each other part that is a vector per TR."""
    code_embedding: Literal["shared", "per_codebook", "codec"] = "shared"
    """What an EnCodec code becomes: embed_dim learned numbers, the same for a code of any codebook
    (shared), or each codebook's own (per_codebook); or, summed over codebooks, the 128 that EnCodec
    itself reads it as (codec)."""
    train_codebooks: bool = False
    """Whether EnCodec's own vectors are trained further (codec)."""
    inputs: Literal["encoders", "vectors", "components"] = "components"
    """encoders: each part has an encoder of its own; vectors: parts that are a vector per TR, text
    among them, enter the trunk as they are but z-scored, others through their encoders; components:
    every part as ridge is given it, by colours and principal components."""
    trunk_dims: Annotated[tuple[PositiveInt, ...], BeforeValidator(_widths)] = ()
    """Widths of the layers before the bottleneck: two (behind a layer as wide as what enters), or
    any other number; none: the bottleneck is linear in what enters."""
    linear_skip: bool = False
    """What enters the trunk also goes straight to the bottleneck, linearly; what its layers add
    begins at 0."""
    activation: Literal["own", "gated"] = "own"
    """Of the trunk's layers: their norm's own; or gated, each number the product of two linear
    maps, which is what an interaction of parts is."""
    norm: Literal["batch", "layer", "none"] = "layer"
    """How layers are normalised, and their activation: batch (BatchNorm, ReLU), layer (LayerNorm,
    GELU: the same in any batch and on any number of workers) or none (GELU)."""
    bottleneck_dim: int = Field(256, ge=1)
    """Width of the bottleneck, the stimulus's representation."""
    memory: Literal["none", "hrf", "conv", "transformer"] = "hrf"
    """What a TR's BOLD answers to: none, one TR of the stimulus, data.lag_seconds earlier; or all
    of the last context_seconds: hrf, through learned responses of each number of the bottleneck;
    conv, through layers of convolutions over TRs; transformer, through layers of attention."""
    context_seconds: float = Field(20.0, gt=0)
    """How far back memory reaches (s)."""
    filters: int = Field(3, ge=1)
    """Responses of each number of the bottleneck (hrf), which start as haemodynamic ones that peak
    after 4 to 6.5 s; one starts as the canonical response."""
    memory_layers: int = Field(2, ge=1)
    """Layers over TRs, which share context_seconds (conv, transformer)."""
    attention_heads: int = Field(4, ge=1)
    """Heads of each layer of attention, a divisor of bottleneck_dim (transformer)."""
    head: Literal["full", "low_rank", "linear"] = "linear"
    """From memory to units: full, through a hidden layer; low_rank, linear through head_rank
    numbers; linear. The last two begin at 0."""
    head_dim: int = Field(16384, ge=1)
    """Width of the hidden layer of a full head."""
    head_rank: int = Field(64, ge=1)
    """Numbers that a low-rank head has between memory and units."""
    heads: Literal["shared", "subject"] = "subject"
    """shared: one head for all subjects; subject: one for each, that of the group and what the
    subject's units deviate by, or, where subjects differ in units, a whole one."""
    shard_head: Annotated[Literal["auto", "on", "off"], Mark.FREE] = "auto"
    """Whether workers share out the head, each with some of the units: it, its optimizer and its
    checkpoints are divided by their number, and its gradients are never sent. auto: where that
    sends less; off: every worker has all units."""
    subject_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the training windows that train the group's head alone (heads subject)."""
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability that a training window lacks a part, of each part, one always left: such a model
    predicts without a part, too."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout rate of every layer (default: each layer's own, 0.2 or 0.3)."""

    def context_trs(self, tr_seconds: float) -> int:
        """See :meth:`ModelSettings.context_trs`."""
        return 0 if self.memory == "none" else max(1, round(self.context_seconds / tr_seconds))

    @property
    def films_may_lack_parts(self) -> bool:
        """See :attr:`ModelSettings.films_may_lack_parts`: what stands in the place of a part would
        enter the statistics of BatchNorm in its encoder."""
        return self.norm != "batch" or self.inputs == "components"

    @property
    def normalises_batches(self) -> bool:
        """See :attr:`ModelSettings.normalises_batches`."""
        return super().normalises_batches and self.norm == "batch"

    @property
    def lag_seconds(self) -> float:
        """See :attr:`ModelSettings.lag_seconds`: what has memory finds the lag itself."""
        return super().lag_seconds if self.memory == "none" else 0.0

    @property
    def head_weight_decay(self) -> float | None:
        """See :attr:`ModelSettings.head_weight_decay`: what ridge's penalty is to a linear head."""
        return LINEAR_HEAD_DECAY if self.head == "linear" else None

    @property
    def head_per_subject(self) -> bool:
        """See :attr:`ModelSettings.head_per_subject`."""
        return self.heads == "subject"

    @property
    def sharding(self) -> str:
        """See :attr:`ModelSettings.sharding`."""
        return self.shard_head

    def unused(self, encoders: Mapping[str, str]) -> dict[str, str]:
        """See :meth:`ModelSettings.unused`."""
        kinds = set(encoders.values())
        vectors = {part for part, kind in encoders.items() if kind == "vector"}
        memory, head = f"model.memory {self.memory}", f"model.head {self.head}"
        inputs, codes = f"model.inputs {self.inputs}", f"model.code_embedding {self.code_embedding}"
        of_codes = ("embed_dim", "code_embedding", "train_codebooks")
        of_audio = ("kernel_sizes", "audio_features")
        of_vectors = ("text_features", "vector_features")
        without = "data.modalities without"
        only_vectors = self.inputs == "vectors" and kinds == {"vector"}
        has_dropout = (
            bool(self.trunk_dims)
            or self.memory in ("conv", "transformer")
            or self.head == "full"
            or not (self.inputs == "components" or only_vectors)
        )
        rules = (
            (self.memory == "none", memory, ("context_seconds",)),
            (self.memory != "hrf", memory, ("filters",)),
            (self.memory not in ("conv", "transformer"), memory, ("memory_layers",)),
            (self.memory != "transformer", memory, ("attention_heads",)),
            (self.head != "full", head, ("head_dim",)),
            (self.head != "low_rank", head, ("head_rank",)),
            (not self.trunk_dims, "model.trunk_dims none", ("activation",)),
            (not has_dropout, f"{memory}, {head}, {inputs} and no trunk_dims", ("dropout",)),
            (self.norm != "batch", f"model.norm {self.norm}", ("batch_norm",)),
            (len(encoders) == 1, "data.modalities of one part", ("modality_dropout",)),
            (self.code_embedding == "codec", codes, ("embed_dim",)),
            (self.code_embedding != "codec", codes, ("train_codebooks",)),
            ("image" not in kinds, f"{without} pictures", ("video_features",)),
            ("codes" not in kinds, f"{without} EnCodec codes", ("audio_codebooks", *of_codes)),
            (not kinds & {"codes", "mel"}, f"{without} sound", of_audio),
            ("text" not in vectors, f"{without} text", ("text_features",)),
            (vectors <= {"text"}, f"{without} other vectors", ("vector_features",)),
            (self.inputs != "encoders", inputs, of_vectors),
            (self.inputs == "components", inputs, ("video_features", *of_audio, *of_codes)),
        )
        return {name: why for is_so, why, names in rules if is_so for name in names}

    @model_validator(mode="after")
    def _skip_has_what_it_skips(self) -> Self:
        if self.linear_skip and not self.trunk_dims:
            raise ValueError("linear_skip: trunk_dims none is linear already; leave it out")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.memory == "transformer" and self.bottleneck_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads is {self.attention_heads}; a divisor of bottleneck_dim "
                f"{self.bottleneck_dim} is accepted"
            )
        apart = self.heads == "subject" or self.memory != "none"
        if apart and self.head == "full" and self.norm == "batch":
            raise ValueError(
                "head full with heads subject, or with memory: a batch may hold one row of a "
                "subject, or of films, which norm batch cannot normalise; norm layer or none is "
                "accepted"
            )
        if self.subject_dropout and self.heads != "subject":
            raise ValueError("subject_dropout is of heads subject: leave it out")
        return self

    @model_validator(mode="after")
    def _kernels_are_odd(self) -> Self:
        if not self.kernel_sizes or any(k < 1 or k % 2 == 0 for k in self.kernel_sizes):
            raise ValueError(
                f"kernel_sizes is {','.join(map(str, self.kernel_sizes)) or 'empty'}; "
                "odd positive widths are accepted, such as 3,5,7"
            )
        return self
