"""Make a film with simulated scans, and run the main job on them.

    python jobs/demo.py

Takes nothing. Makes a film with subtitles and two subjects' scans, twice each, whose noise ceiling
is known (--help: drift, fast features, ...; demo/source/truth.json: what was planted), precomputes
the data set, trains on it with two workers, and gives the same things as jobs/train.py, with its
Pearson r on test TRs beside the ceiling. Started again, it goes on with what is there.
"""

from __future__ import annotations

from pathlib import Path

from giblet_ray.cli import parse_job, run_job
from giblet_ray.config import DemoJob, PrecomputeJob, TrainJob
from giblet_ray.console import say_stages, show, show_table
from giblet_ray.parts.codes import CodesConfig
from giblet_ray.spaces.config import ScanConfig

TRAINING = Path(__file__).with_suffix(".yaml")


def main(job: DemoJob) -> None:
    """Make the files, precompute, train, and compare with the ceiling."""
    out = Path(job.out)
    given = ["--config", str(TRAINING), "--dataset", str(out / "dataset")]
    given += ["--name", f"demo-{job.seed}", "--storage.path", str(out / "runs")]
    training = parse_job(TrainJob, given)
    # As many steps, however often the film was seen.
    epochs = max(1, round(training.train.epochs / job.repeats))
    fewer = training.train.model_copy(update={"epochs": epochs})
    training = training.model_copy(update={"train": fewer})
    if job.preflight.only:
        from giblet_ray.preflight.demo import preflight_demo

        preflight_demo(job, training, show)
        return
    from giblet_ray.demo import make_demo
    from giblet_ray.demo.ceiling import share_of_ceiling
    from giblet_ray.judge.judge import judge_run
    from giblet_ray.precompute.precompute import precompute
    from giblet_ray.preflight.brief import check_training
    from giblet_ray.training.trainer import fit

    show(f"1/3  film and scans: {out / 'source'}")
    files = make_demo(
        out / "source",
        n_trs=job.n_trs,
        fast_features=job.fast_features,
        own_tuning=job.own_tuning,
        interaction=job.interaction,
        drift=job.drift,
        n_repeats=job.repeats,
        high_pass_seconds=job.high_pass_seconds,
        seed=job.seed,
        progress=say_stages(show),
    )
    show(f"2/3  data set: {out / 'dataset'}")
    sources = PrecomputeJob(
        out=str(out / "dataset"),
        film=(str(files.film),),
        text=(str(files.subtitles),),
        bold=tuple(map(str, files.scans)),
        mask=str(files.mask),
        tr_seconds=files.tr_seconds,
        codes=CodesConfig(weights="untrained"),
        scan=ScanConfig(pattern=files.scan_pattern, high_pass_seconds=job.high_pass_seconds),
    )
    precompute(sources, show)
    show("3/3  training")
    trained = fit(training, show, check_training, judge_run)
    reached, ceiling = share_of_ceiling(trained.run_folder, files.ceiling_voxels)
    verdict = f"{reached:.4f} of at most {ceiling:.4f}: {reached / ceiling:.0%}"
    show_table("demo", {**trained.summary(), "test r of noise ceiling": verdict})


if __name__ == "__main__":
    run_job(DemoJob, main)
