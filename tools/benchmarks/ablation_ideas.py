"""The rows of the fourth table of tools/ablations.py: ideas that `laptop` does not use.

Each is a model or a trainer of its own (09_capstone/model_ideas.py, training_ideas.py), or other
fields, and says what its authors, or a calculation, let one expect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import model_ideas
import muon_ideas
import training_ideas
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer


@dataclass(frozen=True)
class Idea:
    """What replaces the model, the trainer or the fields of `laptop`."""

    expected: str
    model: type[TinyTransformerLM] = TinyTransformerLM
    trainer: type[Trainer] = Trainer
    fields: Mapping[str, Any] = field(default_factory=dict)


IDEAS = {
    "value residuals": Idea(
        "a lower loss: late layers get back what the first layer knew of each token.",
        model=model_ideas.ValueResiduals,
    ),
    "value embeddings": Idea(
        "as much as value residuals; 33,280 parameters more, and hardly any time.",
        model=model_ideas.ValueEmbeddings,
    ),
    "gated heads": Idea(
        "a little: a head with nothing to say need not attend to something.",
        model=model_ideas.GatedHeads,
    ),
    "smeared embeddings": Idea(
        "more for characters than for words, since a pair of characters says much more than one.",
        model=model_ideas.SmearedEmbeddings,
    ),
    "soft-capped logits": Idea(
        "stability in long runs, and little else.", model=model_ideas.SoftCappedLogits
    ),
    "two targets": Idea(
        "better features in large models; in small ones, the papers say, a loss.",
        model=model_ideas.TwoTargets,
        trainer=training_ideas.TwoTargetsTrainer,
    ),
    "noisy inputs": Idea(
        "nothing in the first epoch, since nothing can be memorized yet; less overfitting later.",
        trainer=training_ideas.NoisyInputs,
    ),
    "averaged weights": Idea(
        "nothing at the end of a rate that has fallen to zero, which averages by itself.",
        trainer=training_ideas.AveragedWeights,
    ),
    "tail average": Idea(
        "the loss of a falling rate, without having to know when the run ends.",
        trainer=training_ideas.TailAverage,
        fields={"schedule": "constant"},
    ),
    "short context first": Idea(
        "the same loss in less time, if what is near is learned first.",
        trainer=training_ideas.ShortContextFirst,
    ),
    "small batch first": Idea(
        "a lower loss from as many tokens: early gradients agree, late ones are noisy.",
        trainer=training_ideas.SmallBatchFirst,
    ),
    "decay of matrices": Idea(
        "little in so few steps; less overfitting in many epochs.",
        trainer=training_ideas.MatrixDecay,
    ),
    "decay of tables": Idea(
        "little: 65 rows can't memorize a text.", trainer=training_ideas.TableDecay
    ),
    "NorMuon": Idea(
        "a lower loss: no neuron takes much larger steps than another.",
        trainer=training_ideas.with_muon(muon_ideas.NormalizedMuon),
    ),
    "five Newton-Schulz steps": Idea(
        "the same loss in more time: fifteen products per matrix instead of nine.",
        trainer=training_ideas.FiveSteps,
    ),
    "every second step": Idea(
        "a loss a little higher, in less time: half of Muon's products.",
        trainer=training_ideas.with_muon(muon_ideas.EverySecondStep),
    ),
    "wider": Idea(
        "as many parameters in half the layers: less time, but less that builds on other layers.",
        fields={"n_layers": 2, "d_model": 184},
    ),
    "deeper": Idea(
        "twice the layers: more that builds on other layers, and more time, in smaller products.",
        fields={"n_layers": 8, "d_model": 88},
    ),
}
