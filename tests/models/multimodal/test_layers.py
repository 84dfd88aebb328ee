"""What layers over TRs do, against slow and obvious sums."""

from __future__ import annotations

import math

import torch

from giblet_ray.models.multimodal.layers import Attention, spans_of


def test_layers_share_the_context() -> None:
    assert spans_of(13, 2) == [7, 6]
    assert spans_of(12, 3) == [4, 4, 4]
    assert spans_of(1, 2) == [1, 0]


def test_attention_weighs_what_exists_by_its_distance() -> None:
    torch.manual_seed(0)
    span, n_heads, width = 3, 2, 4
    layer = Attention(width, n_heads, span, dropout=0.0)
    torch.nn.init.normal_(layer.distance_HS)
    x_BTD = torch.randn(1, 12, width)
    exists_BT = torch.tensor([[False] * 4 + [True] * 3 + [False] * 5])
    x_BTD = x_BTD * exists_BT[..., None]
    found = layer(x_BTD, exists_BT)[0]
    assert found.shape == (9, width)
    normed = layer.norm(x_BTD)[0]
    key, value = layer.to_key_and_value(normed).chunk(2, dim=-1)
    for row, tr in enumerate(range(span, 12)):
        reach = range(tr - span, tr + 1)
        if not exists_BT[0, reach].any():
            assert not found[row].any()
            continue
        query = layer.to_query(normed[tr])
        heads = []
        for head in range(n_heads):
            at = slice(head * 2, head * 2 + 2)
            seen = [other for other in reach if exists_BT[0, other] or other == tr]
            scores = torch.stack(
                [
                    query[at] @ key[other, at] / math.sqrt(2) + layer.distance_HS[head, tr - other]
                    for other in seen
                ]
            )
            heads.append(scores.softmax(0) @ value[seen, at])
        attended = x_BTD[0, tr] + layer.attended(torch.cat(heads))
        torch.testing.assert_close(found[row], attended + layer.hidden(attended))
