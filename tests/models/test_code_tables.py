"""Codes that are convolved by tables: the same numbers and gradients as embedded and multiplied."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from giblet_ray.models.audio import AudioEncoder
from giblet_ray.models.code_tables import CodeRows, convolve_codes, tables_pay

N_CODEBOOKS, N_CODES, EMBED_DIM, CHANNELS = 3, 11, 5, 6


def plainly(codes: Tensor, embedding_KVE: Tensor, convolution: nn.Conv1d) -> Tensor:
    """Embedded codebook by codebook, stacked as channels, convolved."""
    each = [of[codes[:, k]].transpose(1, 2) for k, of in enumerate(embedding_KVE)]
    return convolution(torch.cat(each, dim=1))


def by_tables(codes: Tensor, embedding_KVE: Tensor, convolution: nn.Conv1d) -> Tensor:
    """The same, looked up."""
    assert convolution.bias is not None
    rows = CodeRows(codes, N_CODES)
    return convolve_codes(rows, embedding_KVE, convolution.weight, convolution.bias)


def case(size: int, n_rows: int, n_frames: int) -> tuple[Tensor, Tensor, nn.Conv1d]:
    """Codes of which some never occur and others often, an embedding, a convolution of float64."""
    generator = torch.Generator().manual_seed(5)
    codes = torch.randint(0, N_CODES - 2, (n_rows, N_CODEBOOKS, n_frames), generator=generator)
    codes[:, 1] = 4
    embedding = torch.randn(N_CODEBOOKS, N_CODES, EMBED_DIM, generator=generator).double()
    torch.manual_seed(6)
    convolution = nn.Conv1d(N_CODEBOOKS * EMBED_DIM, CHANNELS, size, padding=size // 2).double()
    return codes, embedding, convolution


@pytest.mark.parametrize("size", [1, 3, 7, 15])
@pytest.mark.parametrize(("n_rows", "n_frames"), [(1, 1), (2, 2), (3, 5), (2, 23)])
def test_tables_give_what_multiplying_gives_and_the_same_gradients(
    size: int, n_rows: int, n_frames: int
) -> None:
    codes, embedding, convolution = case(size, n_rows, n_frames)
    embedding.requires_grad_()
    wanted = plainly(codes, embedding, convolution)
    found = by_tables(codes, embedding, convolution)
    assert found.shape == (n_rows, CHANNELS, n_frames)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    learned = (embedding, convolution.weight, convolution.bias)
    expected = torch.autograd.grad(wanted, learned, weights)
    for one, other in zip(torch.autograd.grad(found, learned, weights), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert expected[0].any()
    assert not expected[0][:, -1].any()


def test_a_shift_of_the_codes_by_one_frame_shifts_what_is_convolved_by_one_frame() -> None:
    codes, embedding, convolution = case(5, 4, 30)
    early = by_tables(codes[..., :-1], embedding, convolution)
    late = by_tables(codes[..., 1:], embedding, convolution)
    torch.testing.assert_close(late[..., 2:-3], early[..., 3:-2])
    assert early[..., 3:-2].std() > 0


def test_tables_pay_where_there_are_more_frames_to_multiply_than_codes() -> None:
    assert tables_pay(64 * 112, 1024, 64)
    assert not tables_pay(8 * 112, 1024, 64)
    assert not tables_pay(64 * 112, 1024, 8)


@pytest.mark.parametrize("code_embedding", ["shared", "per_codebook"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_batch_that_is_looked_up_is_encoded_as_its_rows_are_one_by_one(
    code_embedding: str, norm: str
) -> None:
    torch.manual_seed(0)
    n_rows, n_frames = 13, 37
    encoder = AudioEncoder(
        *(7, 2, 65, 9, True),
        vocab_size=32,
        embed_dim=24,
        norm=norm,
        code_embedding=code_embedding,
    )
    assert tables_pay(n_rows * n_frames, 32, 24)
    assert not tables_pay(n_frames, 32, 24)
    codes = torch.randint(0, 32, (n_rows, 2, n_frames), dtype=torch.int16)
    encoder.eval()
    gradients = []
    for batches in ([codes], codes.split(1)):
        features = torch.cat([encoder(batch) for batch in batches])
        encoder.zero_grad()
        features.square().sum().backward()
        gradients.append([features, *(each.grad for each in encoder.parameters())])
    assert len(gradients[0]) == 20
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_code_that_there_is_not_is_refused_in_a_batch_that_is_looked_up_too() -> None:
    encoder = AudioEncoder(input_codebooks=2, use_encodec=True, vocab_size=32).eval()
    codes = torch.zeros(20, 2, 30, dtype=torch.int16)
    assert tables_pay(20 * 30, 32, 64)
    codes[3, 1, 17] = 32
    message = r"code 32 \(row 3, codebook 1, frame 17\), must be in \[0, 32\)"
    with pytest.raises(ValueError, match=message):
        encoder(codes)


def test_half_precision_is_multiplied() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(input_codebooks=2, use_encodec=True, vocab_size=32).eval()
    codes = torch.randint(0, 32, (20, 2, 30))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, frames = encoder(codes), encoder.embed_codes(codes)
        of_branches = [encoder.pool(branch(frames)).squeeze(-1) for branch in encoder.branches]
        assert torch.equal(found, encoder.projection(torch.cat(of_branches, dim=1)))
