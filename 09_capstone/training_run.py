"""Run: everything that belongs to one training run, in one place.

Each process of a run has a `Training`: the configuration, the data and the model. The process that
prints and writes has a `Run`, which is a Training with its folders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from any_tokenizer import tokenizer_kind
from checkpointing import Checkpoint, load_checkpoint
from data_loader import check_tokens
from data_parallel import DistributedTrainer
from distributed_context import DistributedContext
from engine import Engine, OnTiming, build_model, choose_engine
from evaluation import equal_context, equal_evaluation_loss
from tiny_transformer_lm import TinyTransformerLM
from training_data import TrainingData, load_training_data
from training_loop import Callback, Trainer
from training_state import TrainingState, restore_random_states
from utils.config import TrainConfig


@dataclass(frozen=True)
class Training:
    """What each process of a run trains with."""

    config: TrainConfig
    data: TrainingData
    engine: Engine
    model: TinyTransformerLM
    workers: DistributedContext
    state: TrainingState | None  # what the run continues from; None from the beginning

    def make_trainer(self, callbacks: Sequence[Callback] = ()) -> Trainer:
        """The training loop of this process."""
        data, engine = self.data, self.engine
        arguments = (self.model, data.train, data.val, self.config, engine.device, engine.dtype)
        if self.workers.world_size == 1:
            return Trainer(*arguments, callbacks)
        return DistributedTrainer(*arguments, callbacks, distributed=self.workers)

    def restore(self, trainer: Trainer) -> None:
        """Give a new trainer everything that was saved: weights, optimizers, position, generators.

        Without a saved state, it starts from the beginning.
        """
        if self.state is None:
            return
        trainer.model.load_state_dict(self.state.model)
        for optimizer, saved in zip(trainer.optimizers, self.state.optimizers, strict=True):
            optimizer.load_state_dict(saved)
        trainer.load_state_dict(self.state.position)
        restore_random_states(self.state.random)

    def initial_loss(self, trainer: Trainer) -> float | None:
        """The validation loss of given weights before the first step; else None.

        Every process of a run calls it, because they share an evaluation.
        """
        given = self.state is None and self.config.init_from is not None
        return trainer.evaluate() if given else None

    def writing_to(self, folder: Path, checkpoint_dir: Path) -> "Run":
        """The same, for the process that writes."""
        return Run(**vars(self), folder=folder, checkpoint_dir=checkpoint_dir)


@dataclass(frozen=True)
class Run(Training):
    """A training run as the process sees it that prints and writes."""

    folder: Path
    checkpoint_dir: Path  # where the best model is copied at the end

    def equal_loss(self, own: float) -> float:
        """The loss of best.safetensors at equal evaluation, in nats per character.

        `own` is its loss per token at its own context, which is the same thing if that is short.
        """
        T, per_token = self.config.model.max_seq_len, self.data.chars_per_token
        if equal_context(T, per_token) == T:
            return own / per_token
        engine = self.engine
        best = load_checkpoint(self.folder / "best.safetensors").build_model(engine.parts)
        best.to(engine.device)
        return equal_evaluation_loss(best, self.data.val, T, per_token, engine.device, engine.dtype)


def prepare(
    config: TrainConfig,
    data: TrainingData,
    workers: DistributedContext,
    state: TrainingState | None = None,
    initial: Checkpoint | None = None,
    on_timing: OnTiming | None = None,
) -> Training:
    """Choose the engine, and build the model on it, with new weights or with given ones."""
    engine = choose_engine(config, on_timing)
    config = replace(config, dtype=engine.dtype_name)  # config.yaml holds what "auto" became
    model = build_model(config.model, engine, config.seed)
    if initial is not None and state is None:
        model.load_state_dict(initial.weights)
    return Training(config, data, engine, model, workers, state)


# --- the configuration and its data --------------------------------------------------------------


def load_stored_data(config: TrainConfig, initial: Checkpoint | None = None) -> TrainingData:
    """The data of a configuration that knows its vocabulary, as config.yaml does."""
    if initial is not None:
        return load_training_data(config.data, tokenizer=initial.tokenizer)
    learned = config.model.vocab_size if config.tokenizer == "bpe" else None
    return load_training_data(config.data, config.tokenizer, learned)


def fit_to_data(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The configuration with the data's tokenizer. Raises CourseError if a split is too short."""
    for tokens, name in ((data.train, "training split"), (data.val, "validation split")):
        check_tokens(tokens, config.batch_size, config.model.max_seq_len, name)
    model = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, tokenizer=tokenizer_kind(data.tokenizer), model=model)
