"""Make a film with simulated scans, and run the main job on them.

    python jobs/demo.py

Takes nothing. Makes a film with subtitles and two subjects' scans, twice each, whose noise ceiling
is known (--help: drift, fast features, ...; demo/source/truth.json: what was planted), precomputes
the data set, trains on it with two workers, stacks that with ridge, and gives the same things as
jobs/train.py, jobs/promote.py --stack and jobs/evaluate.py: r on test TRs with its interval, ridge
beside it, the share of the ceiling, and a report. Started again, it goes on with what is there.

The audio codes are those of an untrained EnCodec, so that nothing is downloaded: scores with them
say nothing about EnCodec's own.
"""

from __future__ import annotations

from pathlib import Path

from giblet_ray.cli import parse_job, run_job
from giblet_ray.config import DemoJob, EvaluateJob, PrecomputeJob, PromoteJob, TrainJob
from giblet_ray.console import say_stages, show, show_table

TRAINING = Path(__file__).with_suffix(".yaml")


def main(job: DemoJob) -> None:
    """Make the files, precompute, train, and judge the run beside ridge and the known ceiling."""
    out = Path(job.out)
    given = ["--config", str(TRAINING), "--dataset", str(out / "dataset")]
    given += ["--name", f"demo-{job.seed}", "--storage.path", str(out / "runs")]
    training = parse_job(TrainJob, given)
    if job.preflight.only:
        from giblet_ray.preflight.demo import preflight_demo

        preflight_demo(job, training, show)
        return
    from giblet_ray.demo import DemoSettings, make_demo
    from giblet_ray.judge.judge import judge_run
    from giblet_ray.judge.opened import open_run
    from giblet_ray.judge.refits import fit_ridge
    from giblet_ray.judge.runs import evaluate_all
    from giblet_ray.precompute.precompute import precompute
    from giblet_ray.preflight.brief import check_training
    from giblet_ray.promotion.stack import stack_runs
    from giblet_ray.tracking.store import open_store
    from giblet_ray.training.trainer import fit

    show(f"1/5  film and scans: {out / 'source'}")
    files = make_demo(out / "source", DemoSettings(**job.made()), say_stages(show))
    show(f"2/5  data set: {out / 'dataset'}; audio codes of an untrained EnCodec")
    made = files.sources(job.high_pass_seconds)
    precompute(PrecomputeJob(out=str(out / "dataset"), embedding=job.embedding, **made), show)
    show("3/5  training")
    trained = fit(training, show, check_training, judge_run)
    show("4/5  banded ridge, and one model of both")
    kept, recorded = training.storage, training.tracking
    evaluation = EvaluateJob(
        run=(trained.run_folder,), ceiling=str(files.ceiling_voxels), out=str(out / "evaluation"),
        storage=kept, tracking=recorded,
    )  # fmt: skip
    ridge = fit_ridge(open_run(trained.run_folder), training.data.modalities, evaluation, show)
    runs = (training.name, ridge.checkpoint.record.config["name"])
    made = {"stack": runs, "name": f"stack-{job.seed}"}
    stack = PromoteJob(**made, storage=kept, tracking=recorded)
    stack_runs(open_store(recorded.uri), stack, show)
    show("5/5  on test TRs, beside ridge and the ceiling that is known")
    ((_, judged),) = evaluate_all(evaluation, show)
    show_table("demo", {**trained.summary(), "noise ceiling": files.ceiling_in_words(), **judged})


if __name__ == "__main__":
    run_job(DemoJob, main)
