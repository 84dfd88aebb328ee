from types import SimpleNamespace

import numpy as np
import pytest

from giblet_ray.dataset.storage import Storage
from giblet_ray.parts.codes import Codes, CodesConfig
from giblet_ray.parts.part import FilmFiles, Made, PartInPieces, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.precompute import pipeline
from giblet_ray.precompute import precompute as driver
from giblet_ray.precompute.units import Unit


@pytest.mark.parametrize("n_cpus", [1, 2, 3, 5, 7, 8, 16, 64])
@pytest.mark.parametrize("n_gpus", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("n_work", [(40,), (40, 20), (3, 40, 20), (1, 2, 3, 4, 40, 20)])
def test_all_kinds_of_work_fit_into_a_cluster_at_once(n_cpus, n_gpus, n_work):
    work = {f"part{index}": n for index, n in enumerate(n_work)}
    slots = pipeline.share_cluster(n_cpus, n_gpus, work)
    assert slots.pools.keys() == work.keys()
    assert all(1 <= pool.size <= work[part] for part, pool in slots.pools.items())
    tasks = 2
    n_actors = sum(pool.size for pool in slots.pools.values())
    assert (n_actors + tasks) * slots.num_cpus <= n_cpus
    (share,) = {pool.gpus for pool in slots.pools.values()}
    # A share is never cut in two by the border between two GPUs.
    assert n_actors <= n_gpus * int(1 / share) if n_gpus else share == 0


def test_the_part_with_most_work_gets_what_the_others_leave():
    slots = pipeline.share_cluster(64, 8, {"codes": 40, "text": 20})
    assert slots.pools == {"codes": (6, 1.0), "text": (2, 1.0)}


def test_no_more_actors_than_work():
    slots = pipeline.share_cluster(64, 0, {"codes": 3})
    assert slots.pools["codes"].size == 3


def unit_of(part, phase, start_seconds, n_trs, stimulus="film"):
    return Unit(
        part=part.name,
        stimulus=stimulus,
        phase=phase,
        start_seconds=start_seconds,
        n_trs=n_trs,
        tr_seconds=1.5,
        film_seconds=900,
        row_group_trs=64,
        files={"film": "film.mp4"},
        sha256={},
        settings={},
        libraries={},
        value=part.value(FILM),
    )


FILM = FilmFiles(name="film", n_trs=1, tr_seconds=1.5, seconds=900, files={"film": "film.mp4"})


@pytest.mark.parametrize(("n_trs", "n_actors"), [(17, 1), (40, 2), (599, 6)])
def test_short_films_are_not_worth_an_actor_each(monkeypatch, n_trs, n_actors):
    monkeypatch.setattr(pipeline, "cluster_totals", lambda: {"CPU": 8.0})
    part = Codes("codes", CodesConfig())
    units = [unit_of(part, 0, 0, n_trs, name) for name in ("one", "two")]
    work = {"codes": [pipeline.Work(unit=unit) for unit in units for _ in range(3)]}
    assert pipeline.share_work(work, {"codes": part}).pools["codes"].size == n_actors


def test_phases_of_a_film_are_joined_of_the_pieces_of_the_one_that_ends_last():
    part = Codes("codes", CodesConfig())
    units = [unit_of(part, 0, 0, 599), unit_of(part, 1, 0.9, 599), unit_of(part, 2, 0.4, 598)]
    other = unit_of(part, 0, 0, 100, "other")
    work = pipeline.cut_work([*units, other], {"codes": part})["codes"]
    of_film = [each for each in work if each.unit.stimulus == "film"]
    assert [each.piece for each in of_film] == part.pieces(units[1].film)
    for each in of_film:
        assert each.unit == units[1]
        assert sorted(of.phase for of in each.others) == [0, 2]
    assert [each.piece for each in work if each not in of_film] == part.pieces(other.film)


def test_a_part_whose_pieces_depend_on_the_phase_has_some_for_each(monkeypatch):
    monkeypatch.setattr(Codes, "pieces_serve_all_phases", False)
    part = Codes("codes", CodesConfig())
    units = [unit_of(part, 0, 0, 599), unit_of(part, 1, 0.9, 599)]
    work = pipeline.cut_work(units, {"codes": part})["codes"]
    pieces = [(each.unit, each.piece) for each in work]
    assert pieces == [(unit, piece) for unit in units for piece in part.pieces(unit.film)]
    assert not any(each.others for each in work)


class Flow(PartInPieces):
    """A lab's own, whose only piece of a film needs no words."""

    pieces_serve_all_phases = True

    def value(self, film):
        return ValueType(dtype="float32", shape=(2,))

    def pieces(self, film):
        return [{}]

    def make_piece(self, film, piece):
        return np.ones((film.n_trs, 2), np.float32)

    def join(self, film, made, prepared):
        return Made(made[0][1][: film.n_trs])


def test_a_part_in_pieces_that_has_no_network_is_made_whole_in_each_phase():
    part = Flow("flow")
    units = [unit_of(part, 0, 0, 599), unit_of(part, 1, 0.9, 598)]
    work = pipeline.cut_work(units, {"flow": part})["flow"]
    assert work == [pipeline.Work(unit=unit) for unit in units]


def test_a_film_whose_only_piece_is_empty_is_joined_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(Flow, "has_network", True)
    part = Flow("flow")
    unit, records, progress = unit_of(part, 0, 0, 5), {}, SimpleNamespace(doing="")

    def run(storage, work, parts):
        for each in work["flow"]:
            yield each, part.make_piece(each.unit.film, each.piece)

    monkeypatch.setattr(pipeline, "run", run)
    plan = SimpleNamespace(units=[unit], parts={"flow": part})
    driver._run_once(Storage.at(str(tmp_path)), plan, records, {"flow": Prepared()}, progress)
    assert records.keys() == {unit.path}
    assert progress.doing == "1 of 1 shards"
