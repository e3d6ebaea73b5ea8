"""sick_runs.py and loss_samples.py: each bug does what it says, and copies are found."""

import pytest
import torch

import loss_samples
import sick_runs
from utils.errors import UsageError


@pytest.mark.parametrize(
    ("sample", "source", "length"),
    [
        ("xabcd", "yyabczz", 3),
        ("abcd", "dcba", 1),
        ("abcd", "abcdabcd", 4),
        ("ab", "xyz", 0),
        ("", "a", 0),
        ("xabcx", "abc" * 1000, 3),  # where every character is frequent
    ],
)
def test_the_longest_copy_is_found(sample: str, source: str, length: int) -> None:
    assert loss_samples.n_copied(sample, source) == length


def test_a_sample_depends_on_its_seed_alone() -> None:
    model = sick_runs.build_model(sick_runs.vocabulary().vocab_size, seed=0)
    one, same, other = (
        loss_samples.write_text(model, sick_runs.vocabulary(), n=20, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == same != other and len(one) == 20


def test_an_unknown_bug_is_named() -> None:
    with pytest.raises(UsageError, match="softmax before the los'"):
        sick_runs.run("softmax before the los", n_steps=1)


def test_the_optimizer_of_another_model_trains_nothing() -> None:
    trained, _ = sick_runs.run("optimizer holds another model", n_steps=2)
    untouched = sick_runs.build_model(sick_runs.vocabulary().vocab_size, seed=0)
    pairs = zip(trained.parameters(), untouched.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_gradients_add_up_if_they_are_never_zeroed() -> None:
    norms = {}
    for bug in (sick_runs.SOUND, "gradients never zeroed"):
        model, _ = sick_runs.run(bug, n_steps=3)
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        norms[bug] = torch.stack(gradients).norm().item()
    assert norms["gradients never zeroed"] > 1.5 * norms[sick_runs.SOUND]


def test_the_second_source_begins_in_the_middle_of_the_run() -> None:
    tokenizer = sick_runs.vocabulary()
    text, _ = sick_runs.texts("one source after the other")
    loader = sick_runs.DataLoader(tokenizer.encode_array(text), sick_runs.B, sick_runs.T, 0)
    for step, capitals in ((150, False), (250, True)):
        x, _ = sick_runs.read_in_order(loader, step)
        assert tokenizer.decode(x.flatten()).isupper() == capitals


def test_a_vocabulary_of_its_own_gives_other_ids() -> None:
    _, val_text = sick_runs.plays()
    tokenizer = sick_runs.vocabulary()
    sound, sick = (
        sick_runs.encode_validation(val_text, tokenizer, bug)[0][0]
        for bug in (sick_runs.SOUND, "validation text has its own vocabulary")
    )
    assert sound.shape == sick.shape and (sound != sick).float().mean() > 0.5
