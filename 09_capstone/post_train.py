"""Post-train a model of the plays: from text that looks right to text that is right.

    python 09_capstone/post_train.py grpo                        # the newest checkpoint
    python 09_capstone/post_train.py grpo --checkpoint MODEL --max-minutes 5
    python 09_capstone/post_train.py sft --task follow           # learn to follow instructions
    python 09_capstone/post_train.py dpo --kl-weight 0.1         # learn from pairs
    python 09_capstone/post_train.py grpo --reward word          # a reward that can be cheated
    python 09_capstone/post_train.py --resume                    # continue an interrupted run

The checkpoint must have been trained on the plays of the mock corpus, whose grammar says what is
right: python 09_capstone/train.py --config 08_engineering/examples/plays.yaml

A run writes what a run of train.py writes, and answers.csv; the result works with sample.py,
tools/interactive.py and serve.py. Ctrl-C saves the state and exits.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import os
from contextlib import closing
from dataclasses import replace

from distributed_context import DistributedContext
from fine_tuning import stored_initial
from post_training.post_args import parse_args, requested_post_config, starting_point
from post_training.post_config import PostTrainConfig
from post_training.post_curves import plot_answers
from post_training.post_messages import (
    PostProgressBar,
    describe_end,
    describe_interruption,
    describe_start,
)
from post_training.post_run import PostRecorder, PostRun
from publishing import publish
from resuming import (
    POST_TRAIN,
    device_to_resume,
    refuse_changes,
    run_to_resume,
    state_to_resume,
    stored_config,
)
from run_curves import draw_curves
from run_folder import locked, run_id_of, write_result
from run_messages import describe_run, describe_timing
from run_places import begin_folder, check_folders, default_runs, make_run_folder
from stop_signals import stop_on_signal, treat_as_ctrl_c
from train import fit
from training_run import fit_to_data, load_stored_data, prepare
from utils.config import save_config
from utils.errors import UsageError
from utils.memory import keep_freed_memory


def main() -> int:
    """Post-train once; returns the exit code."""
    args = parse_args()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("post_train.py runs in one process: start it with python, not torchrun")
    workers = DistributedContext()
    return resume_run(args, workers) if args.resume else start_run(args, workers)


def start_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Change a trained model, from the first step."""
    check_folders(args)
    initial, config = starting_point(args)
    data = load_stored_data(config, initial)
    fitted = fit_to_data(config, data)
    training = prepare(fitted, data, workers, initial=initial, on_timing=describe_timing)
    folder = make_run_folder(args, training.config)
    with locked(folder):
        begin_folder(folder, training.config, args.out_dir is not None, initial)
        return post_train(PostRun.of(training, folder, args.checkpoint_dir, initial))


def resume_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Continue a run that was stopped or killed, as if it had not been interrupted."""
    folder = run_to_resume(args.out_dir, default_runs(), POST_TRAIN)
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        stored = stored_config(folder, PostTrainConfig)
        config = requested_post_config(args, stored)
        refuse_changes(config, stored)
        initial = stored_initial(config, folder)
        assert initial is not None  # such a run always starts from a checkpoint
        data = load_stored_data(config, initial)
        state = state_to_resume(folder, data)
        if state is not None:
            config = replace(config, device=device_to_resume(config.device, state))
        save_config(config, folder / "config.yaml")
        fitted = fit_to_data(config, data)
        training = prepare(fitted, data, workers, state, initial, describe_timing)
        return post_train(PostRun.of(training, folder, args.checkpoint_dir, initial))


def post_train(run: PostRun) -> int:
    """Run the loop, write the run's folder, publish the model; returns the exit code."""
    describe_run(run)
    recorder = PostRecorder(run, run_id_of(run.folder))
    bar = PostProgressBar(run.config.max_steps, run.state.step if run.state else 0)
    trainer = run.make_trainer([recorder, bar])
    bar.recorder = recorder
    with stop_on_signal(trainer), closing(recorder), closing(bar):
        run.restore(trainer)
        if run.at_start:
            describe_start(trainer, recorder)
        finished = fit(trainer, recorder)
        if finished:
            describe_end(run, trainer, recorder)
    published = publish(run.folder, run.checkpoint_dir) if recorder.has_best else None
    if finished:
        write_result(run.folder, {"outcome": "finished", "step": trainer.step, "best": None})
    draw_curves(run.folder, run.data, plot_answers)
    describe_interruption(run, trainer, published, finished)
    return 0 if finished else 130


if __name__ == "__main__":
    keep_freed_memory()
    treat_as_ctrl_c()
    run_program(main)
