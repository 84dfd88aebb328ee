"""jobs/precompute.py in processes of its own: killed, and started again."""

from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.demo import DemoSettings, make_demo


def test_a_killed_job_leaves_no_data_set_and_goes_on_when_started_again(start_job, tmp_path):
    demo = make_demo(tmp_path / "demo", DemoSettings(n_trs=10, n_voxels=30))
    out = tmp_path / "dataset"
    given = ["--film", demo.film, "--text", demo.subtitles, "--bold", *demo.scans]
    given += ["--mask", demo.mask, "--codes.weights", "untrained", "--out", out]
    job = start_job("precompute.py", *given, folder=tmp_path)
    finished = [
        out / f"_work/{path}.json"
        for path in ("bold/01/demo-film.parquet", "frames/demo-film.parquet")
    ]
    job.wait_for(lambda: all(path.exists() for path in finished))
    job.kill()
    assert not (out / MANIFEST).exists()
    refused = start_job("precompute.py", "--out", out, "--check", folder=tmp_path).end(2)
    assert "no such file; a finished data set has one" in refused
    kept = modified(out)

    job = start_job("precompute.py", *given, folder=tmp_path)
    job.end()
    assert job.stderr == ""
    assert "of 5 shards, finished before and verified" in job.stdout
    after = modified(out)
    assert len(after) == 5
    for path in finished:
        name = str(path.relative_to(out / "_work")).removesuffix(".json")
        assert after[name] == kept[name]
    assert not (out / "_work").exists()


def modified(out):
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
