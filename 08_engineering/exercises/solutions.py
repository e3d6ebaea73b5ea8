"""Solutions of lesson 08. Yours may look different: what counts is what it does.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import json
import math
import os
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rotary_layouts import interleaved_to_halves
from utils.errors import did_you_mean

Config = TypeVar("Config")  # a frozen dataclass


def predict_after_crash() -> tuple[float, float, float, float]:
    """Exercise 8.1, a prediction: what does a reader find after a crash?

    best.bin holds 100 bytes, and a program replaces them by 60 new ones. It is killed with
    `kill -9`; then another program reads best.bin. How many bytes does it find?

    The first program writes in place, through the buffer that Python gives every file:

        file = open("best.bin", "wb")
        file.write(new[:30])                    # 1. killed right after this line
        file.flush()                            # 2. or after this one
        file.write(new[30:])
        file.close()

    The second one writes another file first:

        file = open("best.bin.tmp", "wb")
        file.write(new)
        file.flush()
        os.fsync(file.fileno())
        file.close()                            # 3. killed right after this line
        os.replace("best.bin.tmp", "best.bin")  # 4. or after this one

    Returns the four numbers of bytes.
    """
    # 1. "wb" has cut the file to nothing, and the 30 bytes are in the program's own memory, which
    #    dies with it. 2. Now the system has them: it outlives the program, so half of a file is
    #    there. 3. Nothing has touched best.bin. 4. The new name takes the place of the old in one
    #    step; no instant has neither. The fsync changes nothing here: it is for a power cut.
    return 0, 30, 100, 60


def save_bytes(path: Path, data: bytes) -> None:
    """Exercise 8.2, a repair: a file is whole or absent.

    Writes data to path, whose folder exists. Whatever the instant at which a reader looks, and
    whenever the program is killed, path holds what it held before or all of data, and data is on
    the disk before it gets the name. If anything fails, or Ctrl-C is pressed (a KeyboardInterrupt),
    the error is passed on, path holds what it held before, and no file is left over. Other files of
    the folder stay as they are.

    It works on Windows too, where a file that is open can't be renamed, and where os.rename refuses
    a name that exists. The code below the raise has one mistake. Delete the raise line, find the
    mistake, repair it.
    """
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with sibling.open("xb") as file:
            file.write(data)
            file.flush()  # from Python's buffer to the system
            os.fsync(file.fileno())  # from the system to the disk
        # Was path.unlink(missing_ok=True) and sibling.rename(path): in between, a reader finds
        # nothing, and if the rename fails, the clean-up below removes the only copy that is left.
        sibling.replace(path)  # also os.replace(sibling, path)
    except BaseException:
        sibling.unlink(missing_ok=True)
        raise


def read_rows(text: str) -> list[dict[str, Any]]:
    r"""Exercise 8.3: read a log of JSON objects, one per line.

    text: what the file holds. Every line that was written completely ends in "\n". A program that
    was killed may have left the beginning of one more line, without its "\n": that is dropped,
    whatever it holds. Only "\n" ends a line; a string in a row may hold U+2028, at which
    str.splitlines splits as well.

    Returns the rows, in order. Raises ValueError if a complete line isn't a JSON object; its
    message names the line, counted from 1: "line 3". An empty line isn't an object either. JSON is
    what json.loads reads: NaN and Infinity too.
    """
    rows = []
    # What follows the last "\n" is torn, or "" if nothing is. Also text.rpartition("\n")[0].
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError as error:  # json.JSONDecodeError is one
            raise ValueError(f"line {number} is damaged: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} holds {line}, which is not an object")
        rows.append(row)
    return rows


def new_run_folder(parent: Path, seed: int, now: datetime) -> Path:
    """Exercise 8.4, a repair: every run gets a folder of its own.

    parent: where the runs are; it may not exist yet, nor the folder above it. seed: the seed of the
    run's weights and data, which other runs have too. now: the time, which another run may share to
    the second.

    Makes a new, empty folder in parent and returns its path. Its name begins with the time, as in
    20261130-081500-, so that runs sort by age, those of one second in any order. Several programs
    may call this at the same time: no folder is ever given out twice, however many runs share seed
    and second, and one that another program makes is left alone. The code below the raise has one
    mistake. That the digits come from the seed is not it: they make two runs meet, and meeting must
    do no harm. Delete the raise line, find the mistake, repair it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    digits = random.Random(seed)  # secrets.token_hex(3) would be better: no two runs would meet
    while True:
        folder = parent / f"{now:%Y%m%d-%H%M%S}-{digits.getrandbits(24):06x}"
        # Was a question, "if not folder.exists()", and then mkdir(exist_ok=True): between the two,
        # a run with the same seed asks the same question. mkdir alone asks and makes in one step.
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def with_overrides(config: Config, flags: Sequence[str]) -> Config:
    """Exercise 8.5: a configuration with some of its values replaced, as on a command line.

    config: a frozen dataclass; its fields are annotated with the types int, float, bool or str, and
    a value is what its type makes of the text: int("1_000") is 1000. A bool is "true" or "false".
    flags: "name=value" each; a later one wins, but an error in an earlier one is still an error.
    What follows the first "=" is the value.

    Returns a new configuration of the same class. Raises ValueError for a flag without "=", for an
    unknown name and for a value that isn't of its type. The message always holds the flag as it was
    given; for an unknown name also what did_you_mean(name, names) says, and for a wrong type the
    type's name: "max_steps=1e3: expected int".
    """
    types = get_type_hints(type(config))  # also {f.name: f.type for f in fields(config)}
    changes: dict[str, Any] = {}
    for flag in flags:
        name, equals, text = flag.partition("=")
        if not equals:
            raise ValueError(f"{flag}: expected name=value")
        if name not in types:
            raise ValueError(f"{flag}: unknown name{did_you_mean(name, types)}")
        try:
            # bool("false") is True, because the text isn't empty; a table has no such surprise.
            is_bool = types[name] is bool
            changes[name] = {"true": True, "false": False}[text] if is_bool else types[name](text)
        except (KeyError, ValueError):
            raise ValueError(f"{flag}: expected {types[name].__name__}") from None
    # replace calls the constructor, so that the class validates the new values as well.
    return replace(config, **changes)  # pyright: ignore[reportArgumentType]


def restore(
    state: Mapping[str, Any], build: Callable[[], tuple[nn.Module, Optimizer]]
) -> tuple[nn.Module, Optimizer, int]:
    """Exercise 8.6, a repair: continue a run as if it had never stopped.

    state: what was saved after a step: "model" and "optimizer", their state dictionaries, "random",
    what torch.get_rng_state() returned, and "step", the number of steps done; it is used once.
    build() makes a new model, in training mode, and the optimizer of its parameters.

    Returns (model, optimizer, number of steps done). The steps that follow give the same weights,
    bit for bit, as those of a run that was never stopped; the model has dropout, which draws from
    PyTorch's global random generator. The code below the raise has one mistake. Delete the raise
    line, find the mistake, repair it.
    """
    model, optimizer = build()
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    # Was the first line. build() draws the weights of a new model, which are thrown away, but the
    # generator has moved on. Restore it last, when nothing draws any more.
    torch.set_rng_state(state["random"])
    return model, optimizer, state["step"]


def train_on(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
) -> list[float]:
    """Exercise 8.7, a repair: the learning rates of a resumed run are those of the whole run.

    batches: those of the whole run, x (B, d_in) and y (B, d_out); step i, counted from 0, learns
    from batches[i], at the learning rate of the optimizer's start times schedule(i), which may be
    called for later steps too. done: how many steps were taken already; model and optimizer, with
    one group of parameters, are as these left them.

    Trains the model on the remaining batches, in place, and returns the learning rate of each of
    these steps. The code below the raise has one mistake. Delete the raise line, find the mistake,
    repair it.
    """
    # Was last_epoch=done if done else -1. last_epoch is the index of the last step that was taken,
    # and of done steps that is done - 1: -1 says that there was none.
    scheduler = LambdaLR(optimizer, schedule, last_epoch=done - 1)
    rates = []
    for x, y in batches[done:]:
        rates.append(scheduler.get_last_lr()[0])
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return rates


def first_mismatch(
    actual: Tensor, expected: Tensor, rtol: float, atol: float
) -> tuple[int, ...] | None:
    """Exercise 8.8: where do two results differ, as a test has to see it?

    actual and expected: tensors of any real dtype or bool, which may differ. Two values match if
    |actual - expected| <= atol + rtol * |expected|, computed in float64. nan matches nan only, inf
    only inf, and -inf only -inf, whatever the tolerances are.

    Returns the index of the first mismatch, row after row, as a tuple of ints, () for tensors
    without axes; None if there is none. Raises ValueError if the shapes differ: nothing is
    broadcast. Write it without isclose and allclose, PyTorch's or NumPy's.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"shapes {tuple(actual.shape)} and {tuple(expected.shape)} differ")
    # In uint8, 3 - 5 is 254, and a bool can't be subtracted at all.
    a, e = actual.double(), expected.double()
    # inf - inf is nan, and nan <= anything is False; and an inf on the right would let all pass.
    close = e.isfinite() & ((a - e).abs() <= atol + rtol * e.abs())
    matches = close | (a == e) | (a.isnan() & e.isnan())
    places = (~matches).nonzero()  # (n, number of axes), row after row
    return tuple(places[0].tolist()) if len(places) else None


def next_token_loss(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Exercise 8.9, a repair: the loss of a language model.

    model takes tokens (B, T) int64 and returns logits (B, T, V); its attention is causal, so that
    the logits of a position depend on its token and on those before it. 2 <= T.

    Returns the mean cross-entropy over all predictions of a next token, B * (T - 1) of them, a
    tensor without axes, through which gradients flow. The code below the raise has one mistake.
    Delete the raise line, find the mistake, repair it.
    """
    # The logits of the last position predict a token that isn't there; the first token is predicted
    # by none. model(tokens[:, :-1]) in place of the first cut is the same, as the model is causal.
    logits = model(tokens)[:, :-1]  # (B, T - 1, V)
    targets = tokens[:, 1:]  # (B, T - 1): was tokens, what the model has just been shown
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def accumulated_update(
    model: nn.Module,
    optimizer: Optimizer,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    max_norm: float,
) -> tuple[float, float]:
    """Exercise 8.10, a repair: one step on a batch that comes in micro-batches of equal size.

    micro_batches: x (n, d_in) and the targets y (n,) int64 each; model(x) are logits (n, V). The
    gradients are None before.

    Takes one step of the optimizer, as if all examples had come in one batch: on the gradient of
    their mean loss, clipped to the norm max_norm as clip_grad_norm_ does it. Leaves the gradients
    None or zero. Returns (the mean loss over all examples, the norm of its gradient before the
    clipping). The code below the raise has one mistake. Delete the raise line, find the mistake,
    repair it.
    """
    total = 0.0
    for x, y in micro_batches:
        # The division was missing here, and only the loss that is returned had one. backward adds
        # to .grad, so a sum of four means has four times the gradient of the mean.
        loss = F.cross_entropy(model(x), y) / len(micro_batches)
        loss.backward()
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return total, norm.item()


def split_windows(
    tokens: Tensor, length: int, stride: int, val_share: float
) -> tuple[Tensor, Tensor]:
    """Exercise 8.11, a repair: nothing of the validation text is learned.

    tokens (n,): a text. Its last int(n * val_share) tokens are for validation, the others for
    training; both parts have at least length tokens. Windows of length tokens begin at every
    stride-th token of a part, and end within it; with stride < length they overlap.

    Returns (the windows for training (n_train, length), those for validation (n_val, length)), in
    the order of the text. The code below the raise has one mistake. Delete the raise line, find the
    mistake, repair it.
    """
    # Was one unfold of all tokens, of whose windows every k-th went to validation: most of its
    # tokens were in the window before or after it, and so in the training data. Split first, and
    # cut windows afterwards; the same goes for shuffling.
    n_train = len(tokens) - int(len(tokens) * val_share)
    train, val = tokens[:n_train], tokens[n_train:]
    return train.unfold(0, length, stride), val.unfold(0, length, stride)


def attend_cached(pieces: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Exercise 8.12, a repair: causal attention over a text that comes in pieces, with a cache.

    pieces: the queries (T, d_head), keys (T, d_head) and values (T, d_v) of the next T tokens each,
    float32; T may differ from piece to piece, as for a prompt and then one token after the other.

    Returns (the sum of all T, d_v): each query attends to the keys of its own token and of all
    before it, in its piece and in those before. The code below the raise has one mistake. Delete
    the raise line, find the mistake, repair it.
    """
    total = sum(len(k) for _, k, _ in pieces)
    keys = torch.zeros(total, pieces[0][1].size(-1))  # the cache, allocated once
    values = torch.zeros(total, pieces[0][2].size(-1))
    length, outputs = 0, []
    for q, k, v in pieces:
        end = length + len(k)
        keys[length:end], values[length:end] = k, v
        allowed = torch.arange(end) <= torch.arange(length, end)[:, None]  # (T, end)
        scores = q @ keys[:end].mT / math.sqrt(q.size(-1))  # (T, end)
        weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)
        outputs.append(weights @ values[:end])
        length = end  # was missing: every piece took the place of the first
    return torch.cat(outputs)


def speedup(shares: Sequence[float], times: Sequence[float]) -> float:
    """Exercise 8.13: how much faster does a program become if some of its parts do?

    shares: the fraction of the running time that each of the parts takes; together at most 1, and
    the rest stays as it is. times: how many times faster each of them becomes, more than 0: at 2 it
    takes half the time, below 1 it becomes slower, and math.inf means that it disappears.

    Returns how many times faster the whole becomes; math.inf if nothing is left of it (in the tests
    the shares then add up to exactly 1).
    """
    # Amdahl's law: times add up, speeds don't. What is left of the old time, as a fraction:
    left = sum(share / factor for share, factor in zip(shares, times, strict=True))
    left += max(0.0, 1 - math.fsum(shares))  # sum makes 0.7 + 0.2 + 0.1 a little less than 1
    return 1 / left if left > 0 else math.inf


def read_profiles() -> dict[str, str]:
    """Exercise 8.14, reading: which profile belongs to which program?

    The picture 08_engineering/pictures/which_profile.png (it is in theory.md too) shows where the
    time of four programs goes, A to D, all with the same model on the same machine.

    Returns the letter of each: {"training, the lessons' code in float32": ..., "training, fused
    engine in bfloat16": ..., "generation with the modules and cache": ..., "generation with the
    fast decoder": ...}, each "A" to "D".
    """
    return {
        "training, the lessons' code in float32": "C",
        "training, fused engine in bfloat16": "A",
        "generation with the modules and cache": "D",
        "generation with the fast decoder": "B",
    }


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Exercise 8.15: weights in 8 bits, with one scale per row.

    weight (d_out, d_in), floating point. The scale of a row is its largest absolute value divided
    by 127, or 1 for a row of zeros (no other is below 1e-30); each weight becomes the whole number
    that is closest to weight / scale, halfway either one.

    Returns (q (d_out, d_in) int8, scale (d_out,) float32). Everything is computed in float32, half
    precision too.
    """
    weight = weight.float()
    largest = weight.abs().amax(dim=-1)  # (d_out,)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    # From -127 to 127; the -128 of int8 is left out, so that q and -q have the same range. A
    # conversion alone would cut 2.7 to 2: round first.
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def int8_linear(x: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    """Also exercise 8.15: a linear layer with such weights.

    x (..., d_in) float32; q (d_out, d_in) and scale (d_out,) as above.

    Returns (..., d_out) float32: x times the transposed weights that q and scale stand for.
    """
    # Row i of the weights gives output i, so its scale may be multiplied at the end: d_out products
    # in place of d_out * d_in. (q * scale[:, None]) first is as right.
    return x @ q.float().mT * scale


META_NAMES = {  # of the tensors of one block: theirs, ours
    "attention_norm.weight": "attention_norm.weight",
    "attention.wq.weight": "attention.q_proj.weight",  # (n_heads * d_head, d_model)
    "attention.wk.weight": "attention.k_proj.weight",  # (n_kv_heads * d_head, d_model)
    "attention.wv.weight": "attention.v_proj.weight",  # (n_kv_heads * d_head, d_model)
    "attention.wo.weight": "attention.out_proj.weight",  # (d_model, n_heads * d_head)
    "ffn_norm.weight": "feed_forward_norm.weight",
    "feed_forward.w1.weight": "feed_forward.gate_proj.weight",
    "feed_forward.w2.weight": "feed_forward.down_proj.weight",
    "feed_forward.w3.weight": "feed_forward.up_proj.weight",
}


def block_from_meta(
    theirs: Mapping[str, Tensor], n_heads: int, n_kv_heads: int
) -> dict[str, Tensor]:
    """Exercise 8.16, a challenge: convert a block of Llama, as Meta published it, to ours.

    theirs: the tensors of one block by Meta's names; META_NAMES, above, says what each is called
    here. Matrices are stored (out, in), as ours. But their rotary positions turn neighbours, rows
    2i and 2i + 1 of a head; ours turn halves. What you wrote in 4.13 is imported:
    interleaved_to_halves(weight, number_of_heads). n_heads is a multiple of n_kv_heads.

    Returns a new dictionary with our names, so that the block computes here what it computed there;
    no row is moved that need not be, and every tensor keeps its dtype.
    A tensor that META_NAMES doesn't have, or one of META_NAMES that theirs doesn't have, is a
    ValueError with that name of Meta's in its message.
    """
    # First of all, nothing is skipped: a tensor that has no place means that the two models differ.
    for name in theirs.keys() ^ META_NAMES.keys():
        raise ValueError(f"{name} is {'unknown' if name in theirs else 'missing'}")
    # Only queries and keys are turned. Values, output and feed-forward network never see a
    # position; moving their rows would break them. There are fewer heads of keys than of queries.
    heads = {"attention.wq.weight": n_heads, "attention.wk.weight": n_kv_heads}
    return {
        ours: interleaved_to_halves(theirs[name], heads[name]) if name in heads else theirs[name]
        for name, ours in META_NAMES.items()
    }


def schedule(requests: Sequence[tuple[int, int]], n_slots: int) -> list[tuple[int | None, ...]]:
    """Exercise 8.17, a challenge: continuous batching: who decodes when, and in which slot?

    requests: (arrival, length) each: from step `arrival` on it waits for a slot, and then it needs
    one for `length` steps, 1 or more, one token each. Those that came first are served first; of
    equal arrivals, the one that is first in the list.

    At the beginning of each step, from step 0 on, waiting requests take the free slots, the lowest
    slot first. A slot is free again in the step after the last token of its request, whatever the
    others do; a static batch would wait until all of them had ended.

    Returns one row per step, up to the last token of all: for each slot the index of its request,
    or None where it is empty. Without requests there is no row.
    """
    waiting = sorted(range(len(requests)), key=lambda i: requests[i][0])  # the sort is stable
    left = [length for _, length in requests]  # tokens to go
    slots: list[int | None] = [None] * n_slots
    rows: list[tuple[int | None, ...]] = []
    while waiting or any(slot is not None for slot in slots):
        for place, slot in enumerate(slots):
            if slot is None and waiting and requests[waiting[0]][0] <= len(rows):
                slots[place] = waiting.pop(0)
        rows.append(tuple(slots))
        for place, slot in enumerate(slots):
            if slot is not None:
                left[slot] -= 1
                slots[place] = None if left[slot] == 0 else slot
    return rows
