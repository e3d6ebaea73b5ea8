"""Train a language model: from a text file to a checkpoint that generates text.

    python 09_capstone/train.py                                   # laptop preset, Tiny Shakespeare
    python 09_capstone/train.py --preset smoke                    # a test run of a few seconds
    python 09_capstone/train.py --preset full --max-minutes 5     # larger, and five minutes at most
    python 09_capstone/train.py --data my_poems.txt --d-model 64  # your text, your sizes
    python 09_capstone/train.py --parts mine                      # the code that you wrote yourself
    python 09_capstone/train.py --tokenizer bpe --vocab-size 1024 # tokens learned from the text
    python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml   # repeat that run
    python 09_capstone/train.py --init-from MODEL --data my.txt   # fine-tune a trained model
    python 09_capstone/train.py --resume                          # continue an interrupted run
    torchrun --nproc-per-node 2 09_capstone/train.py              # two processes share each batch

Everything a run writes goes into one folder, 09_capstone/runs/RUN/; the best model is also copied
to 09_capstone/checkpoints/, where sample.py looks for the newest. Ctrl-C saves the state and exits;
after a crash or a power cut, --resume continues from the last saved state to the same weights.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
from contextlib import closing
from dataclasses import replace

from callbacks import RunRecorder
from checkpointing import Checkpoint
from distributed_context import DistributedContext, init_distributed
from distributed_worker import announce_run, check_world_size, reporting_lost_workers, run_worker
from fine_tuning import check_tokenizer, load_initial, stored_initial
from progress_bar import ProgressBar
from publishing import publish
from resuming import config_to_resume, device_to_resume, run_to_resume, state_to_resume
from run_curves import draw_curves
from run_folder import locked, run_id_of, write_result
from run_messages import (
    describe_data,
    describe_initial,
    describe_interruption,
    describe_result,
    describe_run,
    describe_timing,
)
from run_places import (
    PARTS_FILE,
    begin_folder,
    check_folders,
    default_runs,
    make_run_folder,
)
from stop_signals import stop_on_signal, treat_as_ctrl_c
from train_args import init_source, new_config, parse_args, tokens_to_learn
from training_data import TrainingData, load_training_data
from training_loop import Trainer
from training_run import Run, fit_to_data, load_stored_data, prepare
from utils.config import TrainConfig, save_config
from utils.device import pick_device
from utils.errors import CourseError
from utils.files import atomic_write_text
from utils.memory import keep_freed_memory


def main() -> int:
    """Train once; returns the exit code. Under torchrun, rank 0 determines that of the run."""
    workers = init_distributed()
    if not workers.is_main:
        return workers.shutdown(run_worker(workers))
    args = parse_args()
    with reporting_lost_workers():
        code = resume_run(args, workers) if args.resume else start_run(args, workers)
    return workers.shutdown(code)


# --- two ways to begin --------------------------------------------------------------------------


def start_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Train a new model from the first step."""
    check_folders(args)
    initial = load_initial(args, init_source(args))
    config = new_config(args, initial.model_config if initial else None)
    workers.validate(config.batch_size, pick_device(config.device))
    data = load_new_data(args, config, initial)
    fitted = fit_to_data(config, data)
    training = prepare(fitted, data, workers, initial=initial, on_timing=describe_timing)
    folder = make_run_folder(args, training.config)
    with locked(folder):
        begin_folder(folder, training.config, args.out_dir is not None, initial)
        return train(training.writing_to(folder, args.checkpoint_dir))


def load_new_data(
    args: argparse.Namespace, config: TrainConfig, initial: Checkpoint | None
) -> TrainingData:
    """Load and describe the text of a new run.

    Its tokenizer is the one that comes with given weights, or has the size that was requested.
    """
    if initial is not None:
        check_tokenizer(config, initial)
        data = load_training_data(config.data, tokenizer=initial.tokenizer)
        describe_data(data)
        return data
    requested = tokens_to_learn(args, config)
    data = load_training_data(config.data, config.tokenizer, requested)
    describe_data(data, requested)
    return data


def resume_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Continue a run that was stopped or killed, as if it had not been interrupted."""
    folder = run_to_resume(args.out_dir, default_runs())
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        config = config_to_resume(args, folder)
        initial = stored_initial(config, folder)
        data = load_stored_data(config, initial)
        describe_data(data)
        state = state_to_resume(folder, data)
        if state is None:  # it was killed before it saved one
            config = fit_to_data(config, data)
        else:
            config = replace(config, device=device_to_resume(config.device, state))
            check_world_size(workers.world_size, state)
        save_config(config, folder / "config.yaml")  # with the data and the device it uses now
        training = prepare(config, data, workers, state, initial, describe_timing)
        return train(training.writing_to(folder, args.checkpoint_dir))


# --- one way to train ---------------------------------------------------------------------------


def train(run: Run) -> int:
    """Run the loop, write the run's folder, publish the best model; returns the exit code."""
    describe_run(run)
    write_parts(run)
    recorder = make_recorder(run)
    bar = ProgressBar(
        run.config.max_steps, run.state.step if run.state else 0, run.data.chars_per_token
    )
    announce_run(run)  # the other ranks wait for this
    trainer = run.make_trainer([recorder, bar])
    announce = run.workers.world_size == 1
    with stop_on_signal(trainer, announce), closing(recorder), closing(bar):
        run.restore(trainer)
        if run.state is not None:
            recorder.samples.add_if_due(trainer)
        if (loss := run.initial_loss(trainer)) is not None:
            recorder.log.write(describe_initial(run, loss))
        finished = fit(trainer, recorder)
    conclude(run, trainer, recorder, finished)
    return 0 if finished else 130


def fit(trainer: Trainer, recorder: RunRecorder) -> bool:
    """Run the loop and record how it ended; returns whether the run is finished."""
    try:
        trainer.fit()
    except CourseError as error:  # a non-finite loss: its weights are not worth saving
        recorder.finish(trainer, str(error), keep=False)
        draw_curves(recorder.folder, recorder.data)
        raise
    # After a stop in the last step, its evaluation or its sample may be missing.
    finished = trainer.step == trainer.max_steps and not trainer.stop
    recorder.finish(trainer, "finished" if finished else "interrupted")
    return finished


def conclude(run: Run, trainer: Trainer, recorder: RunRecorder, finished: bool) -> None:
    """Publish the best model, record that the run is finished, and print what came of it."""
    published = publish(run.folder, run.checkpoint_dir) if recorder.has_best else None
    equal = run.equal_loss(recorder.best) if finished and published else None
    if finished:  # after publishing: a run killed before this line is resumed and published then
        result = {"outcome": "finished", "step": trainer.step, "best": recorder.best}
        write_result(run.folder, {**result, "equal_evaluation": equal})
    draw_curves(run.folder, run.data)  # everything that matters is on disk now
    if published is not None:
        describe_result(run, published, recorder.best, equal)
    if not finished:
        describe_interruption(run, trainer)


def make_recorder(run: Run) -> RunRecorder:
    """What writes the files of the run's folder while it trains."""
    device, run_id = run.engine.device, run_id_of(run.folder)
    return RunRecorder(run.folder, run.config, run.data, run.model, device, run.state, run_id)


def write_parts(run: Run) -> None:
    """With --parts mine: write down whose each part of the model is."""
    if run.engine.mine is not None:
        atomic_write_text(run.folder / PARTS_FILE, f"{run.engine.mine.table()}\n")


if __name__ == "__main__":
    keep_freed_memory()
    treat_as_ctrl_c()
    run_program(main)
