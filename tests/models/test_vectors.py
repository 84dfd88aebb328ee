"""What becomes of each part's rows before ridge sees them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.models.vectors import Vectors, build_vectors, principal_components
from giblet_ray.parts.built_in import _TAKEN
from giblet_ray.parts.reading import find_reading
from giblet_ray.parts.value import ValueType

VALUES = {
    "image": ValueType(dtype="uint8", shape=(3, 18, 32)),
    "images": ValueType(dtype="uint8", shape=(9, 18, 32)),
    "codes": ValueType(dtype="int16", shape=(2, 20)),
    "mel": ValueType(dtype="float32", shape=(60, 12)),
    "vector": ValueType(dtype="float32", shape=(300,)),
}
N = 90


def rows_of(encoder: str) -> np.ndarray:
    random = np.random.default_rng(0)
    value = VALUES[encoder]
    most = {"image": 256, "images": 256, "codes": 1024}.get(encoder)
    if most is None:
        return random.normal(5, 3, (N, *value.shape)).astype(value.dtype)
    return random.integers(0, most, (N, *value.shape)).astype(value.dtype)


def fitted(encoder: str, components: int | None = None) -> tuple[Vectors, np.ndarray]:
    """Return what makes vectors, and the vectors of the rows that it was fitted on."""
    kind = "image" if encoder == "images" else encoder
    vectors = Vectors("part", kind, VALUES[encoder], components)
    rows = find_reading(kind, "").to_input(torch.from_numpy(rows_of(encoder)))
    vectors.fit(vectors.raw(rows))
    return vectors, vectors(rows[:, None])[:, 0].numpy()


@pytest.mark.parametrize("kind", ["ridge", "multimodal"])
def test_parts_may_be_called_as_what_a_module_has(kind: str) -> None:
    names = [name for name in dir(torch.nn.ModuleDict()) if name not in _TAKEN and name[0] != "_"]
    vector = ValueType(dtype="float32", shape=(3,))
    values = dict.fromkeys([*names, "bold"], vector)
    shapes = Shapes(values, dict.fromkeys(names, "vector"), {"01": 3}, 1.5)
    settings = RidgeConfig() if kind == "ridge" else MultimodalConfig()
    model, other = build_predictor(settings, shapes), build_predictor(settings, shapes)
    other.load_state_dict(model.train().state_dict())
    rows = {name: torch.randn(1, 40, 3) for name in names}
    given = rows, torch.ones(1, 40, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    torch.testing.assert_close(other.eval()(*given), model.eval()(*given))


def test_pictures_are_mean_colours_and_pooled_luminance() -> None:
    vectors, _ = fitted("image")
    rows = rows_of("image")
    raw = vectors.raw(find_reading("image", "").to_input(torch.from_numpy(rows))).numpy()
    shades = rows / 255 - 0.5
    np.testing.assert_allclose(raw[:, :3], shades.mean((2, 3)), atol=1e-6)
    luminance = np.einsum("nchw,c->nhw", shades, [0.299, 0.587, 0.114])
    pooled = luminance.reshape(N, 9, 2, 16, 2).mean((2, 4))
    np.testing.assert_allclose(raw[:, 3:], pooled.reshape(N, -1), atol=1e-6)


def test_of_several_pictures_ridge_is_given_their_mean_and_their_motion() -> None:
    vectors, found_NF = fitted("images")
    rows = rows_of("images")
    raw = vectors.raw(find_reading("image", "").to_input(torch.from_numpy(rows))).numpy()
    shades = (rows / 255 - 0.5).reshape(N, 3, 3, 18, 32)
    np.testing.assert_allclose(raw[:, :3], shades.mean((1, 3, 4)), atol=1e-6)
    luminance = np.einsum("nichw,c->nihw", shades, [0.299, 0.587, 0.114])
    change = (abs(luminance[:, 1] - luminance[:, 0]) + abs(luminance[:, 2] - luminance[:, 1])) / 2
    for found, wanted in ((raw[:, 3:147], luminance.mean(1)), (raw[:, 147:], change)):
        pooled = wanted.reshape(N, 9, 2, 16, 2).mean((2, 4))
        np.testing.assert_allclose(found, pooled.reshape(N, -1), atol=1e-6)
    # However small the motion, it is half of the vector.
    np.testing.assert_allclose(found_NF[:, 23:].var(0).sum(), 0.5, atol=1e-5)


def test_pictures_without_motion_are_what_they_are_alone() -> None:
    still = np.tile(rows_of("image"), (1, 3, 1, 1))
    found = []
    for rows, name in ((rows_of("image"), "image"), (still, "images")):
        vectors = Vectors("part", "image", VALUES[name], None)
        shades = find_reading("image", "").to_input(torch.from_numpy(rows))
        vectors.fit(vectors.raw(shades))
        found.append(vectors(shades).numpy())
    np.testing.assert_allclose(found[1][:, :23], found[0], atol=1e-5)
    assert not found[1][:, 23:].any()


def test_codes_are_counted_codebook_by_codebook() -> None:
    vectors, _ = fitted("codes")
    rows = rows_of("codes")
    raw = vectors.raw(torch.from_numpy(rows).long()).numpy().reshape(N, 2, 1024)
    for row in (0, 41):
        for codebook in range(2):
            wanted = np.bincount(rows[row, codebook], minlength=1024)
            np.testing.assert_array_equal(raw[row, codebook], wanted)


def test_codes_are_what_the_codec_reads_them_as() -> None:
    codebooks = np.random.default_rng(1).normal(size=(4, 1024, 128)).astype(np.float32)
    content, other = io.BytesIO(), io.BytesIO()
    np.save(content, codebooks)
    np.save(other, codebooks[:, :, :64])
    vectors = Vectors("part", "codes", VALUES["codes"], None, by_codebooks=True)
    vectors.take_codebooks(content.getvalue())
    rows = rows_of("codes")
    raw = vectors.raw(torch.from_numpy(rows).long()).numpy()
    for row in (0, 41):
        frames = [codebooks[[0, 1], rows[row, :, frame]].sum(axis=0) for frame in range(20)]
        np.testing.assert_allclose(raw[row], np.mean(frames, axis=0), atol=1e-5)
    vectors.fit(torch.from_numpy(raw))
    assert vectors(torch.from_numpy(rows).long()).shape == (N, 40)
    with pytest.raises(InputError, match=r"part/: its codebooks have shape \(4, 1024, 64\); 2 or"):
        vectors.take_codebooks(other.getvalue())


@pytest.mark.parametrize(
    ("encoder", "components", "n"),
    [
        ("image", None, 23),
        ("image", 7, 10),
        ("images", None, 43),
        ("images", 7, 17),
        ("codes", None, 40),
        ("mel", 12, 12),
        ("vector", None, 40),
        ("vector", 300, 300),
    ],
)
def test_vectors_have_mean_0_and_a_variance_of_1_in_all(
    encoder: str, components: int | None, n: int
) -> None:
    _, found_NF = fitted(encoder, components)
    assert found_NF.shape == (N, n)
    np.testing.assert_allclose(found_NF.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found_NF.var(0).sum(), 1, atol=1e-5)


def test_components_are_those_of_an_svd() -> None:
    random = np.random.default_rng(1)
    for shape in ((40, 9), (9, 40)):
        centred = random.normal(size=shape)
        centred -= centred.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        found = principal_components(torch.from_numpy(centred), 12).numpy()
        rank = min(shape[0] - 1, 9)
        cosines = np.abs((found[:, :rank] * directions[:rank].T).sum(0))
        np.testing.assert_allclose(cosines, 1, atol=1e-9)
        assert not found[:, rank:].any()  # there is no more to find


def test_a_short_vector_is_taken_as_it_is_each_number_z_scored() -> None:
    value = ValueType(dtype="float32", shape=(4,))
    vectors = Vectors("gaze", "vector", value, None)
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1, 9, 2, 0]
    )
    vectors.fit(vectors.raw(rows))
    wanted = (rows - rows.mean(0)) / rows.std(0, correction=0) / 3**0.5
    torch.testing.assert_close(vectors(rows)[:, :3], wanted[:, :3])
    assert not vectors(rows)[:, 3].any()  # it never changes


def test_a_part_that_never_changes_is_refused() -> None:
    vectors = Vectors("text", "vector", VALUES["vector"], None)
    with pytest.raises(
        InputError, match=r"^text/: is the same at all 8 training TRs .* codes"
    ) as e:
        vectors.fit(torch.full((8, 300), 0.1))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("components", "said"),
    [
        ({"txt": 3}, r"--model.components txt: not among the parts .*text.*; text are accepted"),
        ({"text": 301}, r"components text=301: the part has 300 numbers per TR; at most 300 "),
    ],
)
def test_components_that_cannot_be_had_are_refused(components: dict[str, int], said: str) -> None:
    shapes = Shapes({"text": VALUES["vector"]}, {"text": "vector"}, {"01": 2}, 1.5)
    with pytest.raises(InputError, match=said):
        build_vectors(shapes, components)
