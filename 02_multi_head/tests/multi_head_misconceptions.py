"""Common wrong answers to the exercises of lesson 02; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `split_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function or class of its own, whose docstring is the diagnosis.
`MISCONCEPTIONS` lists them by the function or class that they imitate; a wrong class is built with
the learner's weights.
"""

import math
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask
from attention import scaled_dot_product_attention as right_attention
from attention import softmax as right_softmax  # torch's has two threads, and waits for them
from grouped_query_attention import grouped_attention as right_grouped
from grouped_query_attention import repeat_kv as right_repeat
from multi_head import merge_heads as right_merge
from multi_head import split_heads as right_split
from utils.grader.mistakes import mistakes

# --- 2.1 split_heads ---


def split_with(
    x: Tensor,
    n_heads: int,
    *,
    counted: str = "n_heads",
    cut: str = "neighbours",
    slices: str = "own",
    reverse: bool = False,
    place: str = "after the batch",
    scaled: bool = False,
    squeezed: bool = False,
) -> Any:
    """The heads."""
    n_heads = x.size(-1) // n_heads if counted == "width" else n_heads
    heads = CUTS[cut](x, n_heads, x.size(-1) // n_heads)  # (B, n_heads, T, d_head)
    if slices == "first":
        heads = heads[:, :1].expand(-1, n_heads, -1, -1)
    elif slices == "all":
        heads = x[:, None].expand(-1, n_heads, -1, -1)
    elif slices == "overlapping":
        heads = torch.stack([x[..., h : h + heads.size(-1)] for h in range(n_heads)], dim=1)
    heads = heads.flip(1) if reverse else heads
    heads = heads / math.sqrt(heads.size(-1)) if scaled else heads
    heads = PLACES[place](heads)
    return heads.squeeze() if squeezed else heads


CUTS = {
    "neighbours": lambda x, n, d: right_split(x, n),
    "dealt out": lambda x, n, d: x.unflatten(-1, (d, n)).permute(0, 3, 1, 2),
    "by view": lambda x, n, d: x.view(len(x), n, x.size(1), d),
    "by reshape": lambda x, n, d: x.reshape(len(x), n, x.size(1), d),
    "after a transpose": lambda x, n, d: x.mT.reshape(len(x), n, x.size(1), d),
    "features before tokens": lambda x, n, d: x.reshape(len(x), n, d, x.size(1)).mT,
    "where contiguous": lambda x, n, d: CUTS["by reshape" if x.is_contiguous() else "neighbours"](
        x, n, d
    ),
    "by strides": lambda x, n, d: x.as_strided(
        (len(x), n, x.size(1), d), (x[0].numel(), d, x.size(-1), 1)
    ),
    "tokens": lambda x, n, d: x.reshape(len(x), n, x.size(1) // n, x.size(-1)),
}

PLACES = {
    "after the batch": lambda heads: heads,
    "after the tokens": lambda heads: heads.transpose(1, 2),
    "last": lambda heads: heads.permute(0, 2, 3, 1),
    "in front": lambda heads: heads.transpose(0, 1),
    "features before tokens": lambda heads: heads.mT,
    "batch after tokens": lambda heads: heads.permute(2, 0, 1, 3),
    "tokens in front": lambda heads: heads.permute(2, 1, 0, 3),
    "one with the batch": lambda heads: heads.flatten(0, 1),
    "a tuple": lambda heads: heads.unbind(1),
}

SPLIT = mistakes(
    split_with,
    viewed_without_transpose=(
        "the shape is made in one step, and view keeps the order in memory: a head gets a few "
        "whole tokens, not a few features of every token; cut the last axis first, then exchange "
        "two axes",
        {"cut": "by view"},
    ),
    reshaped_without_transpose=(
        "the shape is made in one step, and reshape keeps the order of the numbers: a head gets a "
        "few whole tokens, not a few features of every token; cut the last axis first, then "
        "exchange two axes",
        {"cut": "by reshape"},
    ),
    heads_after_tokens=(
        "the heads are still after the tokens, (B, T, n_heads, d_head); exchange these two axes",
        {"place": "after the tokens"},
    ),
    features_dealt_out=(
        "the features are dealt out like cards, each head gets every n_heads-th; a head's features "
        "are neighbours, so n_heads comes before d_head in the view",
        {"cut": "dealt out"},
    ),
    as_many_heads_as_features=(
        "the number of heads and their width are exchanged: there are n_heads heads, each of width "
        "x.size(-1) // n_heads",
        {"counted": "width"},
    ),
    heads_and_features_exchanged=(
        "the last two axes are exchanged; exchange tokens and heads, axes 1 and 2",
        {"place": "last"},
    ),
    heads_in_front=(
        "the heads are before the batch, (n_heads, B, T, d_head); they belong after it",
        {"place": "in front"},
    ),
    features_before_tokens=(
        "in each head tokens and features are exchanged; a row of a head belongs to one token, "
        "(T, d_head)",
        {"place": "features before tokens"},
    ),
    batch_and_tokens_exchanged=(
        "axes 0 and 1 are exchanged, batch and tokens; exchange tokens and heads, axes 1 and 2",
        {"place": "batch after tokens"},
    ),
    batch_and_tokens_exchanged_as_well=(
        "batch and tokens are exchanged, (T, n_heads, B, d_head); exchange tokens and heads",
        {"place": "tokens in front"},
    ),
    heads_in_reverse=(
        "the heads come in reverse order: head 0 gets the first features",
        {"reverse": True},
    ),
    tokens_divided=(
        "the tokens are divided among the heads; every head sees all tokens, and some of the "
        "features",
        {"cut": "tokens"},
    ),
    batch_and_heads_in_one_axis=(
        "batch and heads are one axis, (B * n_heads, T, d_head); here they stay two",
        {"place": "one with the batch"},
    ),
    a_tuple_of_heads=(
        "the heads are separate tensors; stack them into one, along a new axis after the batch",
        {"place": "a tuple"},
    ),
    all_features_for_all_heads=(
        "every head gets all features; each gets its own slice of width x.size(-1) // n_heads",
        {"slices": "all"},
    ),
    transposed_before_the_cut=(
        "tokens and features are exchanged first and the result is regrouped, which mixes the "
        "tokens; cut the last axis first",
        {"cut": "after a transpose"},
    ),
    features_cut_before_tokens=(
        "the shape is made in one step, with the features before the tokens, and the transpose "
        "afterwards does not undo that: a head holds a few whole tokens; cut the last axis first",
        {"cut": "features before tokens"},
    ),
    one_step_where_contiguous=(
        "the axes are exchanged only where x is not contiguous in memory; they must be exchanged "
        "always, because a view alone keeps the order in memory",
        {"cut": "where contiguous"},
    ),
    strides_of_a_contiguous_tensor=(
        "the strides are those of a contiguous tensor, and x may be a view of another one; view or "
        "reshape look at the strides that x has",
        {"cut": "by strides"},
    ),
    first_slice_only=(
        "every head gets the first slice of the features; head h gets slice h",
        {"slices": "first"},
    ),
    slices_overlap=(
        "the slice of head h begins at feature h; it begins at feature h * d_head",
        {"slices": "overlapping"},
    ),
    heads_scaled=(
        "the heads are divided by the square root of d_head; only the features are to be cut, and "
        "the scores are scaled later",
        {"scaled": True},
    ),
    heads_squeezed=(
        "a squeeze removes every axis of size 1, so the batch is lost for one text, and the heads "
        "for one head; keep all four axes",
        {"squeezed": True},
    ),
)


# --- 2.2 merge_heads ---


def merge_with(
    x: Tensor,
    *,
    joined: str = "heads and features",
    reverse: bool = False,
    number: str = "all",
    factor: str = "one",
    finish: str = "",
) -> Any:
    """The merged heads."""
    x = x.flip(1) if reverse else x
    if factor == "mean":
        x = x / x.size(1)
    elif factor == "root":
        x = x / math.sqrt(x.size(1))
    if number == "added":
        merged = x.sum(1)
    elif number == "largest":
        merged = x.amax(1)
    elif number == "first":
        merged = x[:, 0]
    elif number == "last":
        merged = x[:, -1]
    else:
        merged = JOINS[joined](x, x.size(1) * x.size(3))
    if finish == "squeezed":
        return merged.squeeze()
    if finish == "tokens last":
        return merged.mT
    if finish == "tokens first":
        return merged.transpose(0, 1)
    return merged.flatten(0, 1) if finish == "batch and tokens joined" else merged


JOINS = {
    "heads and features": lambda x, width: right_merge(x),
    "by reshape": lambda x, width: x.reshape(len(x), x.size(2), width),
    "by view": lambda x, width: x.view(len(x), x.size(2), width),
    "view of a transpose": lambda x, width: x.transpose(1, 2).view(len(x), x.size(2), width),
    "where contiguous": lambda x, width: JOINS[
        "by reshape" if x.is_contiguous() else "heads and features"
    ](x, width),
    "not": lambda x, width: x.transpose(1, 2),
    "alternating": lambda x, width: x.permute(0, 2, 3, 1).flatten(2),
    "tokens and features exchanged": lambda x, width: x.mT.reshape(len(x), x.size(2), width),
    "batch and heads exchanged": lambda x, width: x.transpose(0, 1).reshape(
        len(x), x.size(2), width
    ),
    "reshaped, then transposed": lambda x, width: x.reshape(len(x), width, x.size(2)).mT,
    "tokens and heads": lambda x, width: x.transpose(1, 2).flatten(1, 2),
    "below each other": lambda x, width: x.flatten(1, 2),
    "tokens and features": lambda x, width: x.flatten(2),
    "texts": lambda x, width: torch.cat(x.unbind(0), dim=-1),
}

WITHOUT_EXCHANGE = (
    "the heads are still before the tokens when the axes are joined, so a row holds several "
    "tokens of one head; exchange tokens and heads first"
)

MERGE = mistakes(
    merge_with,
    merged_without_transpose=(WITHOUT_EXCHANGE, {"joined": "by reshape"}),
    viewed_without_exchange=(WITHOUT_EXCHANGE, {"joined": "by view"}),
    view_of_a_transpose=(
        "view refuses a tensor whose axes were exchanged, because its numbers are no longer in "
        "order in memory; reshape copies where it must",
        {"joined": "view of a transpose"},
    ),
    exchanged_where_not_contiguous=(
        "the axes are exchanged only where x is not contiguous in memory; they must be exchanged "
        "always: what makes a copy necessary is the exchange itself",
        {"joined": "where contiguous"},
    ),
    heads_not_joined=(
        "the axes are exchanged, but heads and features are still two axes; join them",
        {"joined": "not"},
    ),
    features_of_heads_alternate=(
        "the features of the heads alternate; all features of head 0 come first, then those of "
        "head 1",
        {"joined": "alternating"},
    ),
    last_axes_exchanged=(
        "the last two axes are exchanged, tokens and features; exchange heads and tokens, axes 1 "
        "and 2",
        {"joined": "tokens and features exchanged"},
    ),
    first_axes_exchanged=(
        "the first two axes are exchanged, batch and heads; exchange heads and tokens, axes 1 and "
        "2",
        {"joined": "batch and heads exchanged"},
    ),
    transposed_after_joining=(
        "the axes are joined first and exchanged afterwards, which is too late: the join has put "
        "several tokens of one head together; exchange first, then join",
        {"joined": "reshaped, then transposed"},
    ),
    heads_added=(
        "the heads are added up; they belong side by side, so that none is lost",
        {"number": "added"},
    ),
    heads_averaged=(
        "the heads are averaged; they belong side by side, so that none is lost",
        {"number": "added", "factor": "mean"},
    ),
    largest_of_the_heads=(
        "of all heads the largest value is kept; they belong side by side, so that none is lost",
        {"number": "largest"},
    ),
    merged_in_reverse=(
        "the heads come in reverse order; the features of head 0 come first",
        {"reverse": True},
    ),
    tokens_and_heads_joined=(
        "tokens and heads are joined into one axis; heads and features belong together",
        {"joined": "tokens and heads"},
    ),
    heads_below_each_other=(
        "the heads are below each other, (B, n_heads * T, d_head); they belong side by side",
        {"joined": "below each other"},
    ),
    tokens_and_features_joined=(
        "tokens and features are joined, (B, n_heads, T * d_head); heads and features belong "
        "together",
        {"joined": "tokens and features"},
    ),
    texts_side_by_side=(
        "the texts of the batch are side by side; put the heads side by side, axis 1",
        {"joined": "texts"},
    ),
    tokens_last=(
        "the result is (B, n_heads * d_head, T); the tokens come before the features",
        {"finish": "tokens last"},
    ),
    batch_and_tokens_joined=(
        "batch and tokens are joined into one axis; the result has three, (B, T, n_heads * d_head)",
        {"finish": "batch and tokens joined"},
    ),
    first_head_only=("only head 0 is returned; put all heads side by side", {"number": "first"}),
    last_head_only=(
        "only the last head is returned; is something overwritten in a loop?",
        {"number": "last"},
    ),
    all_axes_moved=(
        "the batch is no longer in front: the result is (T, B, n_heads * d_head)",
        {"finish": "tokens first"},
    ),
    merged_and_squeezed=(
        "a squeeze removes every axis of size 1, so the batch is lost for one text; keep all three "
        "axes",
        {"finish": "squeezed"},
    ),
    merged_and_divided=(
        "the values are divided by the number of heads; put them side by side as they are",
        {"factor": "mean"},
    ),
    merged_and_scaled=(
        "the values are divided by the square root of the number of heads; put them side by side "
        "as they are",
        {"factor": "root"},
    ),
)


# --- 2.3 predict_regrouped ---

Four = tuple[float, ...]


def real_head_1() -> Four:
    """these are the features that head 1 should get, and gets in 2.1; here nothing is exchanged, so
    the order in memory stays"""
    return 2, 3, 12, 13


def piece_0() -> Four:
    """this is head 0, the first piece of four; heads are counted from 0"""
    return 0, 1, 2, 3


def piece_2() -> Four:
    """this is head 2, the last piece of four; head 1 is the second of three"""
    return 12, 13, 14, 15


def real_head_2() -> Four:
    """these are the last features of each token, what head 2 gets with the exchange of axes; here
    the order in memory stays"""
    return 4, 5, 14, 15


def real_head_0() -> Four:
    """these are the first features of each token, what head 0 gets with the exchange of axes; here
    the order in memory stays"""
    return 0, 1, 10, 11


def begins_at_feature_2() -> Four:
    """head 0 takes two rows of two, four numbers, so head 1 does not begin at the third number"""
    return 2, 3, 4, 5


def whole_of_token_1() -> Four:
    """this begins where token 1 begins; a piece has four numbers and a token six, so the pieces do
    not begin where tokens do"""
    return 10, 11, 12, 13


def down_the_columns() -> Four:
    """the right numbers, read down the columns; read row by row"""
    return 4, 10, 5, 11


def dealt_out() -> Four:
    """these are every third feature; a view takes numbers that are neighbours in memory"""
    return 1, 4, 11, 14


def counted_through() -> Four:
    """these numbers count through; after 5, the last feature of token 0, comes 10, the first of
    token 1"""
    return 4, 5, 6, 7


def one_too_early() -> Four:
    """the piece begins one number too early: head 0 takes four numbers, 0 to 3"""
    return 3, 4, 5, 10


def one_too_late() -> Four:
    """the piece begins one number too late: head 0 takes four numbers, 0 to 3"""
    return 5, 10, 11, 12


def rows_exchanged() -> Four:
    """the right numbers, but the rows are exchanged: memory order puts 4 and 5 first"""
    return 10, 11, 4, 5


def real_head_1_by_columns() -> Four:
    """these are the features that head 1 should get, read down the columns; here nothing is
    exchanged, so the order in memory stays, and the numbers are read row by row"""
    return 2, 12, 3, 13


def real_head_2_by_columns() -> Four:
    """these are the last features of each token, read down the columns; here the order in memory
    stays"""
    return 4, 14, 5, 15


def begins_at_feature_1() -> Four:
    """these are features 1 and 2 of each token; head 1 begins after the four numbers of head 0,
    and nothing is exchanged"""
    return 1, 2, 11, 12


def read_backwards() -> Four:
    """the right numbers in reverse order; memory is read from the front"""
    return 11, 10, 5, 4


def half_of_each() -> Four:
    """the first row is right; the next row goes on in memory, where token 1 begins with 10"""
    return 4, 5, 12, 13


# --- 2.4 MultiHeadAttention ---

NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")


class LayerWith(nn.Module):
    """The layer of 2.4."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        bias: bool = True,
        *,
        projections: str = "square",
        biases: str = "as asked",
        by: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
        n_splits: str = "n_heads",
        split: str = "right",
        merge: str = "right",
        masking: str = "handed on",
        attending: str = "once",
        scaled: str = "by attend",
        finish: str = "projected",
        residual: bool = False,
        returned: str = "output",
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.by, self.split, self.merge = by, split, merge
        self.number = {"n_heads": n_heads, "one": 1, "width": d_model // n_heads}[n_splits]
        self.masking, self.attending, self.scaled = masking, attending, scaled
        self.finish, self.residual, self.returned = finish, residual, returned
        make_projections(self, projections, (d_model, d_model, d_model, d_model), n_heads)
        set_biases(self, biases, bias)

    def projected(self, name: str, x: Tensor) -> Tensor:
        return x if name == "nothing" else self.get_submodule(name)(x)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = right_attention,
    ) -> Any:
        if self.split == "before the projections":
            x = right_split(x, self.number)
        parts = [self.projected(name, x) for name in self.by]
        if self.finish == "values":
            parts[2] = self.projected("out_proj", parts[2])
        q, k, v = (SPLITS[self.split](part, self.number) for part in parts)
        q, k = SCALES[self.scaled](q, k)
        mask = MASKS[self.masking](mask, x.size(1))
        output, weights = ATTENDS[self.attending](attend, q, k, v, mask)
        merged = MERGES[self.merge](output)
        if self.finish in ("projected", "twice"):
            merged = self.projected("out_proj", merged)
        merged = self.projected("out_proj", merged) if self.finish == "twice" else merged
        merged = merged / self.n_heads if self.finish == "divided" else merged
        merged = x + merged if self.residual else merged
        if self.returned == "squeezed":
            return merged.squeeze()
        return {"output": merged, "pair": (merged, weights), "weights": weights}[self.returned]


class Linear(nn.Linear):
    """A linear map whose weights are loaded afterwards: drawing them takes most of the time."""

    def reset_parameters(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()


def make_projections(
    layer: nn.Module, kind: str, widths: tuple[int, int, int, int], n_heads: int
) -> None:
    """Give a layer its projections, from d_model to these widths, with biases."""
    d_model = widths[0]
    if kind == "one for three":
        layer.qkv_proj = Linear(d_model, sum(widths[:3]))
        layer.out_proj = Linear(d_model, d_model)
        return
    names = {"named W": ("W_q", "W_k", "W_v", "W_o"), "short": ("q", "k", "v", "out")}
    for name, width in zip(names.get(kind, NAMES), widths, strict=True):
        if kind == "per head" and name != "out_proj":
            each = [Linear(d_model, width // n_heads) for _ in range(n_heads)]
            layer.add_module(name, nn.ModuleList(each))
        elif kind == "narrow" and name != "out_proj":
            layer.add_module(name, Linear(d_model, width // n_heads))
        elif kind == "narrow at the output" and name == "out_proj":
            layer.add_module(name, Linear(d_model // n_heads, d_model))
        elif kind != "none at the output" or name != "out_proj":
            layer.add_module(name, Linear(d_model, width))
    if kind == "one too many":
        layer.norm = nn.LayerNorm(d_model)


def set_biases(layer: nn.Module, kind: str, bias: bool) -> None:
    """Remove the biases that a layer should not have, or those that it should."""
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        is_output = name in ("out_proj", "W_o", "out")
        wanted = {
            "as asked": bias,
            "always": True,
            "never": False,
            "turned around": not bias,
            "always at the output": bias or is_output,
            "never at the output": bias and not is_output,
            "only at the output": bias and is_output,
            "always but at the output": bias or not is_output,
            "keys and values never": bias and name not in ("k_proj", "v_proj"),
            "keys and values always": bias or name in ("k_proj", "v_proj"),
        }[kind]
        if not wanted:
            module.register_parameter("bias", None)


SPLITS = {
    "right": right_split,
    "by reshape": lambda x, n: CUTS["by reshape"](x, n, x.size(-1) // n),
    "dealt out": lambda x, n: CUTS["dealt out"](x, n, x.size(-1) // n),
    "not exchanged": lambda x, n: right_split(x, n).transpose(1, 2),
    "before the projections": lambda x, n: x,
}

FIRST_ASKED = ("transpose", "size", "permute", "swapaxes", "movedim", "reshape", "contiguous")
MERGES = {
    "right": right_merge,
    "by reshape": lambda x: x.reshape(len(x), x.size(2), -1),
    "alternating": lambda x: x.permute(0, 2, 3, 1).flatten(2),
    "not exchanged": lambda x: x.flatten(2),
    "added": lambda x: x.sum(1),
    "averaged": lambda x: x.mean(1),
    "not": lambda x: x.transpose(1, 2),
    # What a merge asks its argument for first; a pair has none of it, and the error names it.
    **{f"through {name}": attrgetter(name) for name in FIRST_ASKED},
}

SCALES = {
    "by attend": lambda q, k: (q, k),
    "twice": lambda q, k: (q / math.sqrt(q.size(-1)), k),
    "queries and keys": lambda q, k: (q / math.sqrt(q.size(-1)), k / math.sqrt(q.size(-1))),
    "undone": lambda q, k: (q * math.sqrt(q.size(-1)), k),
    "fourth root": lambda q, k: (q / q.size(-1) ** 0.25, k / q.size(-1) ** 0.25),
}


def inverted(mask: Tensor | None, T: int) -> Tensor | None:
    return None if mask is None else ~mask


def booleans_inverted(mask: Tensor | None, T: int) -> Tensor | None:
    return mask if mask is None or mask.dtype != torch.bool else ~mask


def made_boolean(mask: Tensor | None, T: int) -> Tensor | None:
    return None if mask is None else mask.bool()


def turned(mask: Tensor | None, T: int) -> Tensor | None:
    return None if mask is None else mask.mT


def with_an_axis(mask: Tensor | None, T: int) -> Tensor | None:
    return None if mask is None else mask[:, None]


def of_the_first_head(mask: Tensor | None, T: int) -> Tensor | None:
    return mask if mask is None or mask.dim() < 4 else mask[:, :1]


def of_the_first_text(mask: Tensor | None, T: int) -> Tensor | None:
    return mask if mask is None or mask.dim() < 3 else mask[:1]


def causal_if_none(mask: Tensor | None, T: int) -> Tensor | None:
    return causal_mask(T) if mask is None else mask


def causal_always(mask: Tensor | None, T: int) -> Tensor | None:
    return causal_mask(T)


def causal_as_well(mask: Tensor | None, T: int) -> Tensor | None:
    return causal_mask(T) if mask is None else mask & causal_mask(T)


MASKS = {
    "handed on": lambda mask, T: mask,
    "forgotten": lambda mask, T: None,
    "inverted": inverted,
    "booleans inverted": booleans_inverted,
    "made boolean": made_boolean,
    "turned": turned,
    "with an axis": with_an_axis,
    "of the first head": of_the_first_head,
    "of the first text": of_the_first_text,
    "causal if none": causal_if_none,
    "causal always": causal_always,
    "causal as well": causal_as_well,
}


def head_after_head(attend: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Any:
    """One call per head, with tensors of three axes."""
    per_head = None if mask is None else mask.expand(len(q), q.size(1), -1, -1)
    masks = [None] * q.size(1) if per_head is None else per_head.unbind(1)
    parts = [attend(q[:, h], k[:, h], v[:, h], m)[0] for h, m in enumerate(masks)]
    return torch.stack(parts, 1), None


def head_after_head_with_axes(
    attend: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Any:
    """One call per head, with tensors of four axes."""
    per_head = None if mask is None else mask.expand(-1, q.size(1), -1, -1)
    parts = []
    for h in range(q.size(1)):
        one = slice(h, h + 1)
        its_mask = None if per_head is None else per_head[:, one]
        parts.append(attend(q[:, one], k[:, one], v[:, one], its_mask)[0])
    return torch.cat(parts, 1), None


def heads_in_the_batch(attend: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Any:
    """One call with tensors of three axes, batch and heads in one."""
    flat = (part.flatten(0, 1) for part in (q, k, v))
    output, weights = attend(*flat, mask)
    return output.unflatten(0, q.shape[:2]), weights


ATTENDS = {
    "once": lambda attend, q, k, v, mask: attend(q, k, v, mask),
    "own": lambda attend, q, k, v, mask: right_attention(q, k, v, mask),
    "keys and values exchanged": lambda attend, q, k, v, mask: attend(q, v, k, mask),
    "queries and keys exchanged": lambda attend, q, k, v, mask: attend(k, q, v, mask),
    "values first": lambda attend, q, k, v, mask: attend(v, q, k, mask),
    "head after head": head_after_head,
    "head after head with axes": head_after_head_with_axes,
    "heads in the batch": heads_in_the_batch,
    "second part": lambda attend, q, k, v, mask: attend(q, k, v, mask)[::-1],
    "not unpacked": lambda attend, q, k, v, mask: (attend(q, k, v, mask), None),
    "turned keys": lambda attend, q, k, v, mask: attend(q, k.mT, v, mask),
    "twice": lambda attend, q, k, v, mask: attend(q, k, attend(q, k, v, mask)[0], mask),
}

CALLED_PER_HEAD = (
    "attend is called for one head after the other; call it once, with all heads: it treats every "
    "axis but the last two as a batch"
)
MASK_INVERTED = (
    "the mask is inverted; hand it on as it is, True means that a query may attend to a key"
)

PAIR_NOT_UNPACKED = (
    "the pair that attend returns, (output, weights), is handed on whole to the merge of the "
    "heads; take the first part of it"
)
PAIRS_HANDED_ON = {
    f"Pair{name.capitalize()}": (
        PAIR_NOT_UNPACKED,
        {"attending": "not unpacked", "merge": f"through {name}"},
    )
    for name in FIRST_ASKED
}

LAYER = mistakes(
    LayerWith,
    OutputNotProjected=(
        "the output projection is not used: the heads' results are returned as they are",
        {"finish": "not projected"},
    ),
    ProjectedTwice=("the output projection is used twice", {"finish": "twice"}),
    OutputProjectedBeforeHeads=(
        "the output projection is applied to the values, before the heads attend; it comes last",
        {"finish": "values"},
    ),
    InputAdded=(
        "x is added to the output; such a residual connection belongs to the block around the "
        "layer, not to the layer",
        {"residual": True},
    ),
    MaskNotHandedOn=("the mask is not handed on to attend", {"masking": "forgotten"}),
    MaskInverted=(MASK_INVERTED, {"masking": "inverted"}),
    BooleansInverted=(MASK_INVERTED, {"masking": "booleans inverted"}),
    MaskMadeBoolean=(
        "the mask is turned into a boolean one, and floating masks lose their values; hand it on "
        "as it is",
        {"masking": "made boolean"},
    ),
    MaskTransposed=(
        "the mask is transposed; its rows are queries and its columns keys already",
        {"masking": "turned"},
    ),
    MaskWithAnAxis=(
        "the mask gets one more axis; it broadcasts to (B, n_heads, T, T) as it is",
        {"masking": "with an axis"},
    ),
    MaskOfTheFirstHead=(
        "all heads get the mask of the first head; hand on the whole mask",
        {"masking": "of the first head"},
    ),
    MaskOfTheFirstText=(
        "all texts get the mask of the first text; hand on the whole mask",
        {"masking": "of the first text"},
    ),
    AlwaysCausal=(
        "a causal mask is used where none was handed in; without a mask every token sees all "
        "others",
        {"masking": "causal if none"},
    ),
    CausalWhateverIsHandedIn=(
        "the mask is always causal; hand on the mask that is handed in, or None",
        {"masking": "causal always"},
    ),
    CausalAsWell=(
        "a causal mask is combined with the one that is handed in; hand it on as it is",
        {"masking": "causal as well"},
    ),
    OwnAttention=(
        "the argument attend is not used: call it in place of scaled_dot_product_attention",
        {"attending": "own"},
    ),
    CalledPerHead=(CALLED_PER_HEAD, {"attending": "head after head"}),
    CalledPerHeadWithAxes=(CALLED_PER_HEAD, {"attending": "head after head with axes"}),
    HeadsInTheBatch=(
        "attend gets batch and heads in one axis; it needs (B, n_heads, T, d_head), to which the "
        "mask broadcasts",
        {"attending": "heads in the batch"},
    ),
    WeightsTakenForTheOutput=(
        "the second part of attend's result, the weights, is taken for the output; it is the first",
        {"attending": "second part"},
    ),
    PairNotUnpacked=(PAIR_NOT_UNPACKED, {"attending": "not unpacked"}),
    **PAIRS_HANDED_ON,
    XSplitFirst=(
        "x is split into heads before the projections, which need all of its features; project "
        "first, then split",
        {"split": "before the projections"},
    ),
    KeysTransposed=(
        "the keys are transposed before attend, which does that itself; hand them in as "
        "(B, n_heads, T, d_head)",
        {"attending": "turned keys"},
    ),
    AttendsTwice=(
        "the heads attend twice, one after the other; once is enough",
        {"attending": "twice"},
    ),
    KeysAndValuesExchanged=(
        "keys and values are exchanged: attend takes q, k, v in this order",
        {"attending": "keys and values exchanged"},
    ),
    QueriesAndKeysExchanged=(
        "queries and keys are exchanged: attend takes q, k, v in this order",
        {"attending": "queries and keys exchanged"},
    ),
    ValuesComeFirst=(
        "the values are handed in first: attend takes q, k, v in this order",
        {"attending": "values first"},
    ),
    KeysFromQueryProjection=(
        "the keys are made with q_proj; they have a projection of their own, k_proj",
        {"by": ("q_proj", "q_proj", "v_proj")},
    ),
    ValuesFromKeyProjection=(
        "the values are made with k_proj; they have a projection of their own, v_proj",
        {"by": ("q_proj", "k_proj", "k_proj")},
    ),
    KeysFromValueProjection=(
        "the keys are made with v_proj; they have a projection of their own, k_proj",
        {"by": ("q_proj", "v_proj", "v_proj")},
    ),
    QueriesFromKeyProjection=(
        "the queries are made with k_proj; they have a projection of their own, q_proj",
        {"by": ("k_proj", "k_proj", "v_proj")},
    ),
    AllFromQueryProjection=(
        "queries, keys and values are all made with q_proj; keys and values have projections of "
        "their own",
        {"by": ("q_proj", "q_proj", "q_proj")},
    ),
    ValuesFromQueryProjection=(
        "the values are made with q_proj; they have a projection of their own, v_proj",
        {"by": ("q_proj", "k_proj", "q_proj")},
    ),
    NothingProjected=(
        "x itself is split into heads; project it first, with q_proj, k_proj and v_proj",
        {"by": ("nothing", "nothing", "nothing")},
    ),
    ValuesNotProjected=(
        "the values are slices of x itself; make them with v_proj",
        {"by": ("q_proj", "k_proj", "nothing")},
    ),
    SplitByView=(
        "the heads are cut out by a view straight to (B, n_heads, T, d_head), which mixes tokens; "
        "cut the last axis first, as in 2.1",
        {"split": "by reshape"},
    ),
    MergedByView=(
        "the heads are put together by a reshape alone, which mixes tokens; exchange tokens and "
        "heads first, as in 2.2",
        {"merge": "by reshape"},
    ),
    SplitByDealing=(
        "the features are dealt out to the heads like cards; a head's features are neighbours, as "
        "in 2.1",
        {"split": "dealt out"},
    ),
    MergedAlternating=(
        "the features of the heads alternate after the merge; all features of head 0 come first, "
        "as in 2.2",
        {"merge": "alternating"},
    ),
    DealtOutAndBack=(
        "the features are dealt out to the heads like cards, and collected the same way; a head's "
        "features are neighbours, as in 2.1 and 2.2",
        {"split": "dealt out", "merge": "alternating"},
    ),
    SplitAndMergedByView=(
        "heads are cut out and put together by reshape alone, which mixes tokens; exchange tokens "
        "and heads in both directions, as in 2.1 and 2.2",
        {"split": "by reshape", "merge": "by reshape"},
    ),
    HeadsAttendToHeads=(
        "tokens and heads are not exchanged before attend, so within a token head attends to head; "
        "attend needs (B, n_heads, T, d_head)",
        {"split": "not exchanged", "merge": "not exchanged"},
    ),
    HeadsAdded=(
        "the results of the heads are added up or averaged; put them side by side, as in 2.2",
        {"merge": "added"},
    ),
    HeadsAveraged=(
        "the results of the heads are added up or averaged; put them side by side, as in 2.2",
        {"merge": "averaged"},
    ),
    HeadsNotMerged=(
        "the heads are not put together before out_proj, which needs (B, T, d_model); merge them, "
        "as in 2.2",
        {"merge": "not"},
    ),
    OneWideHead=(
        "there is one head of full width: nothing is split into heads",
        {"n_splits": "one"},
    ),
    WidthTakenForNumber=(
        "number and width of the heads are exchanged: there are n_heads of them",
        {"n_splits": "width"},
    ),
    ScaledTwice=(
        "the queries are divided by the square root of d_head, and attend divides the scores "
        "again; leave it to attend",
        {"scaled": "twice"},
    ),
    ScaledThreeTimes=(
        "queries and keys are divided by the square root of d_head, and attend divides the scores "
        "again; leave it to attend",
        {"scaled": "queries and keys"},
    ),
    ScalingUndone=(
        "the queries are multiplied by the square root of d_head, which undoes what attend does; "
        "leave the scores to attend",
        {"scaled": "undone"},
    ),
    PairReturned=("a pair is returned; only the output is asked for", {"returned": "pair"}),
    WeightsReturned=(
        "the weights are returned; the output is asked for",
        {"returned": "weights"},
    ),
    NarrowProjections=(
        "the projections are as wide as one head; all heads share one projection of width d_model, "
        "and each takes a slice of it",
        {"projections": "narrow"},
    ),
    NarrowAtTheOutput=(
        "out_proj takes the features of one head; it takes those of all heads side by side, "
        "d_model",
        {"projections": "narrow at the output"},
    ),
    OneProjectionForThree=(
        "one wide projection makes queries, keys and values; here they are three, q_proj, k_proj "
        "and v_proj",
        {"projections": "one for three"},
    ),
    NoOutputProjection=(
        "the layer has no output projection, out_proj",
        {"projections": "none at the output"},
    ),
    OtherNames=(
        "the projections have other names; they are called q_proj, k_proj, v_proj and out_proj",
        {"projections": "named W"},
    ),
    ShorterNames=(
        "the projections have other names; they are called q_proj, k_proj, v_proj and out_proj",
        {"projections": "short"},
    ),
    ProjectionsPerHead=(
        "each head has projections of its own in a list; one projection per role is asked for, of "
        "which each head takes a slice",
        {"projections": "per head"},
    ),
    LayerNormAdded=(
        "the layer has a LayerNorm; it belongs to the block around the layer, not to the layer",
        {"projections": "one too many"},
    ),
    BiasAlways=(
        "the argument bias is not used: with bias=False there must be none",
        {"biases": "always"},
    ),
    BiasNever=(
        "there are no biases; hand the argument bias on to nn.Linear",
        {"biases": "never"},
    ),
    BiasExceptAtTheOutput=(
        "out_proj always has a bias; with bias=False there must be none",
        {"biases": "always at the output"},
    ),
    NoBiasAtTheOutput=(
        "out_proj has no bias; with bias=True all four projections have one",
        {"biases": "never at the output"},
    ),
    BiasOnlyAtTheOutput=(
        "only out_proj has a bias; with bias=True all four projections have one",
        {"biases": "only at the output"},
    ),
    BiasOnlyAtTheOutputIsSwitched=(
        "q_proj, k_proj and v_proj always have a bias; with bias=False there must be none",
        {"biases": "always but at the output"},
    ),
)


class NotInitialized(LayerWith):
    """super().__init__() is missing; it must be the first line of __init__"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)


# --- 2.5 split_qkv ---


def qkv_with(
    qkv: Tensor,
    n_heads: int,
    *,
    cut: str = "thirds",
    order: str = "qkv",
    split: str = "right",
    scaled: str = "not",
    keys: str = "rows",
    returned: str = "three",
) -> Any:
    """Queries, keys and values."""
    width = qkv.size(-1) // 3
    if cut == "heads first":
        parts = list(right_split(qkv, n_heads).chunk(3, dim=-1))
    elif cut == "heads of d_head, three times":
        parts = list(qkv.reshape(len(qkv), 3, n_heads, qkv.size(1), -1).unbind(1))
    elif cut == "n_heads pieces":
        parts = [right_split(part, 3) for part in qkv.chunk(n_heads, dim=-1)]
    else:
        if cut == "thirds":
            thirds = list(qkv.chunk(3, dim=-1))
        elif cut == "every third":
            thirds = [qkv[..., i::3] for i in range(3)]
        elif cut == "tokens":
            thirds = list(qkv.chunk(3, dim=1))
        elif cut == "first three times":
            thirds = [qkv[..., :width]] * 3
        elif cut == "reshaped":
            thirds = list(qkv.reshape(len(qkv), 3, qkv.size(1), width).unbind(1))
        else:  # one after the other
            thirds = [qkv[..., i : i + width] for i in range(3)]
        parts = [QKV_SPLITS[split](part, n_heads) for part in thirds]
    if len(parts) == 3:
        named = dict(zip(order, parts, strict=True))
        parts = [named[name] for name in "qkv"]
        root = math.sqrt(width / n_heads)
        parts[0] = parts[0] / root if scaled in ("queries", "queries and keys") else parts[0]
        parts[1] = parts[1] / root if scaled == "queries and keys" else parts[1]
        parts[1] = parts[1].mT if keys == "columns" else parts[1]
    if returned == "stacked":
        return torch.stack(parts)
    return torch.cat(parts, -1) if returned == "joined" else tuple(parts)


QKV_SPLITS = {
    **{name: SPLITS[name] for name in ("right", "by reshape", "dealt out", "not exchanged")},
    "not": lambda x, n: x,
    "features before tokens": lambda x, n: right_split(x, n).mT,
    "by width": lambda x, n: right_split(x, x.size(-1) // n),
    "in front": lambda x, n: right_split(x, n).transpose(0, 1),
}

QKV = mistakes(
    qkv_with,
    qkv_as_handed_out=(
        "the heads are still cut before queries, keys and values are separated, so head 0 gets "
        "queries of other heads for its keys; the other order is needed",
        {"cut": "heads first"},
    ),
    keys_come_first=(
        "queries and keys are exchanged: the queries come first",
        {"order": "kqv"},
    ),
    keys_come_last=(
        "keys and values are exchanged: the order is queries, keys, values",
        {"order": "qvk"},
    ),
    values_come_first=(
        "queries and values are exchanged: the order is queries, keys, values",
        {"order": "vkq"},
    ),
    order_moved_on=(
        "the values are taken for the first third; the order is queries, keys, values",
        {"order": "vqk"},
    ),
    order_moved_back=(
        "the keys are taken for the first third, and the queries for the last; the order is "
        "queries, keys, values",
        {"order": "kvq"},
    ),
    not_split_into_heads=(
        "queries, keys and values are separated, but not yet split into heads",
        {"split": "not"},
    ),
    every_third_feature=(
        "queries, keys and values are taken as every third feature; each is a third of "
        "neighbouring features",
        {"cut": "every third"},
    ),
    thirds_regrouped=(
        "the thirds are cut into heads by a reshape alone, which mixes tokens; split them as in "
        "2.1",
        {"split": "by reshape"},
    ),
    five_axes_in_one_step=(
        "all five axes are made in one step, with the tokens after the heads, which keeps the "
        "order in memory and mixes tokens; cut the last axis first, then move axes",
        {"cut": "heads of d_head, three times"},
    ),
    thirds_reshaped=(
        "the thirds are made by a reshape with the tokens after them, which mixes tokens and "
        "features; cut the last axis",
        {"cut": "reshaped"},
    ),
    heads_behind_tokens=(
        "the heads are still after the tokens; each part must be (B, n_heads, T, d_head)",
        {"split": "not exchanged"},
    ),
    heads_before_the_batch=(
        "the heads are before the batch; each part must be (B, n_heads, T, d_head)",
        {"split": "in front"},
    ),
    tokens_cut_in_three=(
        "the tokens are cut in three (dim=1); cut the features, the last axis",
        {"cut": "tokens"},
    ),
    one_tensor_of_three=(
        "one tensor is returned; return three, q, k and v",
        {"returned": "stacked"},
    ),
    three_joined_again=(
        "queries, keys and values are joined again; return three tensors, q, k and v",
        {"returned": "joined"},
    ),
    first_third_three_times=(
        "all three are the first third; keys and values are the second and the last",
        {"cut": "first three times"},
    ),
    thirds_overlap=(
        "the keys begin one feature after the queries; they begin where the queries end",
        {"cut": "one feature further"},
    ),
    cut_by_heads=(
        "the features are cut into n_heads pieces; cut them in three first",
        {"cut": "n_heads pieces"},
    ),
    width_before_heads=(
        "each third is dealt out to the heads feature by feature; a head's features are neighbours",
        {"split": "dealt out"},
    ),
    thirds_by_width=(
        "number and width of the heads are exchanged: there are n_heads heads",
        {"split": "by width"},
    ),
    features_behind_heads=(
        "in each head tokens and features are exchanged; a row belongs to one token, (T, d_head)",
        {"split": "features before tokens"},
    ),
    queries_scaled=(
        "the queries are divided by the square root of d_head already; that belongs to the scores, "
        "and only the cut is asked for",
        {"scaled": "queries"},
    ),
    queries_and_keys_scaled=(
        "queries and keys are divided by the square root of d_head already; only the cut is asked "
        "for",
        {"scaled": "queries and keys"},
    ),
    keys_transposed=(
        "the keys are transposed already, for the scores; they are (B, n_heads, T, d_head) like "
        "the others",
        {"keys": "columns"},
    ),
)


# --- 2.6 cross_attend ---


def cross_with(
    layer: nn.Module,
    x: Tensor,
    context: Tensor,
    mask: Tensor | None = None,
    *,
    sources: str = "xcc",
    by: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
    heads: str = "n_heads",
    split: str = "right",
    merge: str = "right",
    masking: str = "handed on",
    attention: str = "the course's",
    scaled: str = "by attend",
    finish: str = "projected",
    residual: str = "none",
    returned: str = "output",
) -> Any:
    """Cross-attention; `sources` are those of q, k and v: x, c the context, b both."""
    n_heads: int = layer.n_heads  # pyright: ignore[reportAssignmentType]
    number = {"n_heads": n_heads, "one": 1, "width": x.size(-1) // n_heads}[heads]
    texts = {"x": x, "c": context}
    if "b" in sources:
        texts["b"] = torch.cat([x, context], dim=1)
    q, k, v = (
        SPLITS[split](
            texts[one] if name == "nothing" else layer.get_submodule(name)(texts[one]), number
        )
        for one, name in zip(sources, by, strict=True)
    )
    q, k = (q / math.sqrt(n_heads), k) if scaled == "of d_model" else SCALES[scaled](q, k)
    mask = CROSS_MASKS[masking](mask, x.size(1))
    output, weights = CROSS_ATTENDS[attention](q, k, v, mask)
    result = MERGES[merge](output)
    if finish in ("projected", "twice"):
        result = layer.get_submodule("out_proj")(result)
    result = layer.get_submodule("out_proj")(result) if finish == "twice" else result
    if residual != "none":
        result = result + {"x": x, "context": context}[residual]
    return {"output": result, "pair": (result, weights)}[returned]


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """Attention without the reference's checks: it raises the errors of a learner's code."""
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    weights = right_softmax(scores, dim)
    return weights @ v, weights


def own_allowed(mask: Tensor | None, T: int) -> Tensor | None:
    """The mask of the context after one that allows everything of x."""
    if mask is None:
        return None
    own = torch.ones if mask.dtype == torch.bool else torch.zeros
    return torch.cat([own((*mask.shape[:-1], T), dtype=mask.dtype), mask], dim=-1)


CROSS_MASKS = {**MASKS, "own allowed": own_allowed}
CROSS_ATTENDS = {
    "the course's": right_attention,
    "by hand": plain_attention,
    "over queries": lambda q, k, v, mask: plain_attention(q, k, v, mask, -2),
    "over heads": lambda q, k, v, mask: plain_attention(q, k, v, mask, 1),
    "without softmax": lambda q, k, v, mask: (q @ k.mT / math.sqrt(q.size(-1)) @ v, q),
    "masked afterwards": lambda q, k, v, mask: masked_afterwards(q, k, v, mask),
}


def masked_afterwards(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The mask multiplied into the weights."""
    _, weights = plain_attention(q, k, v)
    weights = weights if mask is None else weights * mask
    return weights @ v, weights


OTHER_SIDE = "the sides are exchanged: queries come from x, keys and values from context"
BOTH_ARE_KEYS = (
    "x is put before the context, so its tokens are keys as well; the keys are those of context "
    "alone"
)
VALUES_FROM_X = "the values come from x; like the keys they come from context"
KEYS_FROM_X = "the keys come from x; like the values they come from context"
CROSS_INVERTED = (
    "the mask is inverted; hand it on as it is, True means that a query may attend to a key"
)

CROSS = mistakes(
    cross_with,
    context_not_used=(
        "context is not used: keys and values come from x, and should come from context",
        {"sources": "xxx"},
    ),
    sides_exchanged=(OTHER_SIDE, {"sources": "cxx"}),
    sides_exchanged_and_the_mask=(OTHER_SIDE, {"sources": "cxx", "masking": "turned"}),
    everything_from_context=(
        "the queries come from context as well; they come from x",
        {"sources": "ccc"},
    ),
    only_values_from_context=(KEYS_FROM_X, {"sources": "xxc"}),
    only_values_from_context_by_hand=(KEYS_FROM_X, {"sources": "xxc", "attention": "by hand"}),
    only_keys_from_context=(VALUES_FROM_X, {"sources": "xcx"}),
    only_keys_from_context_by_hand=(VALUES_FROM_X, {"sources": "xcx", "attention": "by hand"}),
    x_joins_the_keys=(BOTH_ARE_KEYS, {"sources": "xbb", "masking": "own allowed"}),
    x_joins_the_keys_without_a_mask=(BOTH_ARE_KEYS, {"sources": "xbb", "masking": "forgotten"}),
    cross_mask_forgotten=("the mask is not used", {"masking": "forgotten"}),
    cross_mask_inverted=(CROSS_INVERTED, {"masking": "inverted"}),
    cross_booleans_inverted=(CROSS_INVERTED, {"masking": "booleans inverted"}),
    cross_mask_made_boolean=(
        "the mask is turned into a boolean one, and floating masks lose their values; hand it on "
        "as it is",
        {"masking": "made boolean"},
    ),
    cross_mask_transposed=(
        "the mask is transposed; its rows are queries and its columns keys already",
        {"masking": "turned"},
    ),
    cross_mask_with_an_axis=(
        "the mask gets one more axis; it broadcasts to (B, n_heads, T_q, T_k) as it is",
        {"masking": "with an axis"},
    ),
    cross_mask_of_the_first_text=(
        "all texts get the mask of the first text; hand on the whole mask",
        {"masking": "of the first text"},
    ),
    cross_output_not_projected=(
        "the output projection is missing at the end: layer.out_proj",
        {"finish": "not projected"},
    ),
    cross_projected_twice=("the output projection is used twice", {"finish": "twice"}),
    cross_keys_by_q_proj=(
        "the keys are made with q_proj; use k_proj",
        {"by": ("q_proj", "q_proj", "v_proj")},
    ),
    cross_values_by_k_proj=(
        "the values are made with k_proj; use v_proj",
        {"by": ("q_proj", "k_proj", "k_proj")},
    ),
    cross_keys_by_v_proj=(
        "the keys are made with v_proj; use k_proj",
        {"by": ("q_proj", "v_proj", "v_proj")},
    ),
    cross_queries_by_k_proj=(
        "the queries are made with k_proj; use q_proj",
        {"by": ("k_proj", "k_proj", "v_proj")},
    ),
    cross_all_by_q_proj=(
        "all three are made with q_proj; use k_proj for the keys and v_proj for the values",
        {"by": ("q_proj", "q_proj", "q_proj")},
    ),
    cross_nothing_projected=(
        "x and context themselves are split into heads; project them first",
        {"by": ("nothing", "nothing", "nothing")},
    ),
    context_not_projected=(
        "keys and values are slices of context itself; make them with k_proj and v_proj",
        {"by": ("q_proj", "nothing", "nothing")},
    ),
    cross_values_not_projected=(
        "the values are slices of context itself; make them with v_proj",
        {"by": ("q_proj", "k_proj", "nothing")},
    ),
    cross_keys_and_values_exchanged=(
        "keys and values are exchanged",
        {"by": ("q_proj", "v_proj", "k_proj")},
    ),
    cross_queries_and_keys_by_each_other=(
        "the queries are made with k_proj and the keys with q_proj; use each for its own",
        {"by": ("k_proj", "q_proj", "v_proj")},
    ),
    cross_without_heads=(
        "there is one wide head: split queries, keys and values into layer.n_heads heads",
        {"heads": "one"},
    ),
    cross_width_for_number=(
        "number and width of the heads are exchanged: there are layer.n_heads of them",
        {"heads": "width"},
    ),
    cross_input_added=(
        "x is added to the output; a residual connection does not belong to the layer",
        {"residual": "x"},
    ),
    cross_pair_returned=("a pair is returned; only the output is asked for", {"returned": "pair"}),
    cross_not_scaled=(
        "the division of the scores by the square root of d_head is missing",
        {"scaled": "undone"},
    ),
    cross_scaled_twice=(
        "the scores are divided by the square root of d_head twice; once is right",
        {"scaled": "twice"},
    ),
    cross_scaled_by_d_model=(
        "the scores are divided by the square root of d_model; a head is d_head wide",
        {"scaled": "of d_model"},
    ),
    cross_softmax_over_queries=(
        "the softmax runs over the queries; it belongs over the keys, the last axis",
        {"attention": "over queries"},
    ),
    cross_softmax_over_heads=(
        "the softmax runs over the heads; it belongs over the keys, the last axis",
        {"attention": "over heads"},
    ),
    cross_without_softmax=(
        "the softmax is missing: the scores themselves weight the values",
        {"attention": "without softmax"},
    ),
    cross_masked_afterwards=(
        "the mask is applied after the softmax, so the rows no longer sum to 1; apply it to the "
        "scores",
        {"attention": "masked afterwards"},
    ),
    cross_split_by_view=(
        "the heads are cut out by a reshape alone, which mixes tokens; split them as in 2.1",
        {"split": "by reshape"},
    ),
    cross_merged_by_view=(
        "the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2",
        {"merge": "by reshape"},
    ),
    cross_split_and_merged_by_view=(
        "heads are cut out and put together by reshape alone, which mixes tokens; exchange tokens "
        "and heads in both directions, as in 2.1 and 2.2",
        {"split": "by reshape", "merge": "by reshape"},
    ),
    cross_dealt_out=(
        "the features are dealt out to the heads like cards; a head's features are neighbours, as "
        "in 2.1",
        {"split": "dealt out"},
    ),
    cross_merged_alternating=(
        "the features of the heads alternate after the merge; all features of head 0 come first, "
        "as in 2.2",
        {"merge": "alternating"},
    ),
    cross_heads_added=(
        "the results of the heads are added up or averaged; put them side by side, as in 2.2",
        {"merge": "added"},
    ),
    cross_heads_averaged=(
        "the results of the heads are added up or averaged; put them side by side, as in 2.2",
        {"merge": "averaged"},
    ),
)


# --- 2.7 head_contributions ---


def contributions_with(
    heads: Tensor,
    w_o: Tensor,
    *,
    columns: str = "own",
    which: str = "own",
    merged: str = "right",
    terms: str = "alone",
    factor: str = "one",
    place: str = "after the batch",
) -> Any:
    """The contributions."""
    n_heads, d_head = heads.size(1), heads.size(3)
    if merged == "by reshape":
        heads = right_split(heads.reshape(len(heads), heads.size(2), -1), n_heads)
    slices = COLUMNS[columns](w_o, n_heads, d_head)  # (n_heads, d_head, d_model)
    if which == "first":
        slices = slices[:1]
    elif which == "reverse":
        slices = slices.flip(0)
    elif which == "next":
        slices = slices.roll(-1, 0)
    elif which == "overlapping":
        slices = torch.stack([w_o[:, h : h + d_head].T for h in range(n_heads)])
    if columns == "rows":  # head after head, so that it raises the errors of a learner's code
        rows = [w_o[h * d_head : (h + 1) * d_head] for h in range(n_heads)]
        each = torch.stack([heads[:, h] @ rows[h] for h in range(n_heads)], dim=1)
    else:
        each = heads @ slices  # (B, n_heads, T, d_model)
    whole = each.sum(1, keepdim=True)
    each = {
        "alone": each,
        "so far": each.cumsum(1),
        "without": whole - each,
        "whole": whole.expand_as(each),
        "negative": -each,
        "up to here": whole - each.cumsum(1),
    }[terms]
    if factor == "mean":
        each = each / n_heads
    elif factor == "root":
        each = each / math.sqrt(d_head)
    return FINISHES[place](each)


COLUMNS = {
    "own": lambda w, n, d: w.unflatten(1, (n, d)).permute(1, 2, 0),
    "rows": lambda w, n, d: w.unflatten(1, (n, d)).permute(1, 2, 0),  # cut by each head
    "regrouped": lambda w, n, d: w.reshape(n, -1, d).mT,
    "viewed as transposed": lambda w, n, d: w.reshape(n, d, -1),
    "dealt out": lambda w, n, d: w.unflatten(1, (d, n)).permute(2, 1, 0),
    "d_model and d_head exchanged": lambda w, n, d: w.unflatten(1, (n, d)).transpose(0, 1),
    "rows, transposed": lambda w, n, d: w.unflatten(0, (n, -1)).mT,
    "regrouped rows": lambda w, n, d: w.mT.reshape(n, -1, d).mT,
}

FINISHES = {
    "after the batch": lambda each: each,
    "after the tokens": lambda each: each.transpose(1, 2),
    "in front": lambda each: each.transpose(0, 1),
    "side by side": right_merge,
    "added": lambda each: each.sum(1),
    "averaged": lambda each: each.mean(1),
    "features before tokens": lambda each: each.mT,
    "lengths": lambda each: each.norm(dim=-1),
    "over the tokens": lambda each: each.sum(2),
    "mean over the tokens": lambda each: each.mean(2),
    "a tuple": lambda each: each.unbind(1),
    "squeezed": lambda each: each.squeeze(),
}

CONTRIBUTIONS = mistakes(
    contributions_with,
    rows_of_w_o=(
        "w_o is cut into rows; nn.Linear stores it transposed, so the heads meet its columns",
        {"columns": "rows"},
    ),
    w_o_regrouped=(
        "w_o is regrouped by a view with the heads in front, which keeps the order in memory; cut "
        "its last axis, then move the heads to the front",
        {"columns": "regrouped"},
    ),
    w_o_viewed_as_transposed=(
        "w_o is viewed as (n_heads, d_head, d_model), which keeps the order in memory and is no "
        "transpose; cut its last axis, then move axes",
        {"columns": "viewed as transposed"},
    ),
    slices_not_transposed=(
        "the slices of w_o are (d_model, d_head), and the features of a head meet them from the "
        "wrong side: transpose each slice",
        {"columns": "d_model and d_head exchanged"},
    ),
    columns_dealt_out=(
        "each head gets every n_heads-th column of w_o; it gets d_head neighbouring ones",
        {"columns": "dealt out"},
    ),
    first_columns_for_all=(
        "all heads meet the first columns of w_o; head h meets those from h * d_head on",
        {"which": "first"},
    ),
    columns_in_reverse=(
        "the slices of w_o come in reverse order: head 0 meets the first columns",
        {"which": "reverse"},
    ),
    columns_of_the_next_head=(
        "each head meets the columns of the next one; head h meets those from h * d_head on",
        {"which": "next"},
    ),
    columns_overlap=(
        "the columns of head h begin at h; they begin at h * d_head",
        {"which": "overlapping"},
    ),
    merged_by_reshape=(
        "the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2",
        {"merged": "by reshape"},
    ),
    output_without_the_head=(
        "this is the output without each head, all others together; what the head itself writes is "
        "asked for",
        {"terms": "without"},
    ),
    output_so_far=(
        "the contributions are added up from head to head; each is asked for by itself",
        {"terms": "so far"},
    ),
    output_of_the_later_heads=(
        "this is what the later heads write together; each head is asked for by itself",
        {"terms": "up to here"},
    ),
    output_for_every_head=(
        "every head gets the whole output; let all other heads be zero",
        {"terms": "whole"},
    ),
    equal_shares=(
        "every head gets an equal share of the output; let all other heads be zero to see what one "
        "writes",
        {"terms": "whole", "factor": "mean"},
    ),
    sign_turned_around=(
        "the sign is turned around: take the output with the head minus the one without it",
        {"terms": "negative"},
    ),
    contributions_averaged=(
        "the contributions are divided by the number of heads; the output is their sum, not their "
        "mean",
        {"factor": "mean"},
    ),
    contributions_scaled=(
        "the contributions are divided by the square root of d_head; that belongs to the scores of "
        "attention",
        {"factor": "root"},
    ),
    contributions_summed=(
        "the contributions are added up already; one per head is asked for",
        {"place": "added"},
    ),
    contributions_after_tokens=(
        "the heads are after the tokens, (B, T, n_heads, d_model); they belong before them",
        {"place": "after the tokens"},
    ),
    contributions_before_the_batch=(
        "the heads are before the batch, (n_heads, B, T, d_model); they belong after it",
        {"place": "in front"},
    ),
    contributions_side_by_side=(
        "the contributions are side by side in one long row; the heads need an axis of their own",
        {"place": "side by side"},
    ),
    contributions_transposed=(
        "tokens and features are exchanged; the result is (B, n_heads, T, d_model)",
        {"place": "features before tokens"},
    ),
    lengths_of_contributions=(
        "these are the lengths of the contributions; the vectors themselves are asked for",
        {"place": "lengths"},
    ),
    contributions_over_tokens=(
        "the contributions are added up over the tokens; each token has its own",
        {"place": "over the tokens"},
    ),
    contributions_averaged_over_tokens=(
        "the contributions are averaged over the tokens; each token has its own",
        {"place": "mean over the tokens"},
    ),
    contributions_in_a_tuple=(
        "the contributions are separate tensors; stack them, along a new axis after the batch",
        {"place": "a tuple"},
    ),
)


# --- 2.8 layer_cost ---


def cost_with(
    d_model: int,
    n_heads: int,
    T: int,
    bias: bool = True,
    *,
    matrices: str = "four",
    biases: str = "of all outputs",
    projecting: str = "four",
    products: str = "two",
    width: str = "d_model",
    pairs: str = "T * T",
    doubled: bool = False,
    additions: str = "left out",
    softmax: bool = False,
    exchanged: bool = False,
) -> tuple[float, float]:
    """Parameters and multiply-adds."""
    d_head = d_model // n_heads
    parameters = {
        "four": 4 * d_model**2,
        "three": 3 * d_model**2,
        "one": d_model**2,
        "of one head": 4 * d_model * d_head,
        "qkv of one head": 3 * d_model * d_head + d_model**2,
        "times heads": 4 * d_model**2 * n_heads,
        "qkv times heads": (3 * n_heads + 1) * d_model**2,
    }[matrices]
    parameters += {
        "of all outputs": 4 * d_model * bias,
        "forgotten": 0,
        "always": 4 * d_model,
        "one number": 4 * bias,
        "of one projection": d_model * bias,
        "of three projections": 3 * d_model * bias,
        "of one head": 4 * d_head * bias,
        "times heads": 4 * d_model * n_heads * bias,
        "turned around": 4 * d_model * (not bias),
    }[biases]
    work = {
        "four": 4 * T * d_model**2,
        "three": 3 * T * d_model**2,
        "one": T * d_model**2,
        "of one head": 4 * T * d_model * d_head,
        "times heads": 4 * T * d_model**2 * n_heads,
        "for one token": 4 * d_model**2,
        "forgotten": 0,
        "for pairs": 4 * T**2 * d_model**2,
    }[projecting]
    count = {"two": 2, "one": 1, "none": 0, "three": 3}[products]
    size = {
        "d_model": d_model,
        "d_head": d_head,
        "times heads": d_model * n_heads,
        "number of heads": n_heads,
        "squared": d_model**2,
        "1": 1,
    }[width]
    many = {"T * T": T**2, "T": T, "causal": T * (T + 1) // 2, "cubed": T**3}[pairs]
    work += count * many * size
    work += {
        "left out": 0,
        "of biases": 4 * T * d_model * bias,
        "of biases, always": 4 * T * d_model,
    }[additions]
    work += n_heads * T**2 if softmax else 0
    work = 2 * work if doubled else work
    return (work, parameters) if exchanged else (parameters, work)


COST = mistakes(
    cost_with,
    everything_times_heads=(
        "everything is multiplied by n_heads; the heads share the d_model features, so more heads "
        "are narrower and cost the same",
        {
            "matrices": "times heads",
            "biases": "times heads",
            "projecting": "times heads",
            "width": "times heads",
        },
    ),
    parameters_times_heads=(
        "the parameters are multiplied by n_heads; all heads share four projections of d_model "
        "times d_model",
        {"matrices": "times heads", "biases": "times heads"},
    ),
    matrices_times_heads=(
        "the matrices are multiplied by n_heads; all heads share four projections of d_model "
        "times d_model",
        {"matrices": "times heads"},
    ),
    work_times_heads=(
        "the multiply-adds of the projections are multiplied by n_heads; all heads share four "
        "projections",
        {"projecting": "times heads"},
    ),
    projections_of_one_head=(
        "the projections are counted as d_model times d_head, one head of each; count all heads",
        {"matrices": "of one head", "biases": "of one head"},
    ),
    parameters_and_work_of_one_head=(
        "parameters and multiply-adds are those of projections from d_model to d_head, of one "
        "head; count all heads",
        {"matrices": "of one head", "biases": "of one head", "projecting": "of one head"},
    ),
    one_projection=(
        "one projection is counted; there are four",
        {"matrices": "one", "biases": "of one projection", "projecting": "one"},
    ),
    one_projection_at_work=(
        "the multiply-adds of one projection are counted; there are four",
        {"projecting": "one"},
    ),
    biases_forgotten=(
        "the biases are missing: each of the four projections has d_model of them if bias is True",
        {"biases": "forgotten"},
    ),
    biases_always=("biases are counted even if bias is False", {"biases": "always"}),
    biases_turned_around=(
        "biases are counted if bias is False, and not if it is True",
        {"biases": "turned around"},
    ),
    one_bias_per_projection=(
        "a projection is given a single bias; it has one for each of its d_model outputs",
        {"biases": "one number"},
    ),
    one_projection_biased=(
        "the biases of one projection are counted; four projections have them",
        {"biases": "of one projection"},
    ),
    biases_of_three=(
        "the biases of three projections are counted; the output projection has them too",
        {"biases": "of three projections"},
    ),
    biases_of_one_head=(
        "the biases are counted as d_head per projection; a projection has d_model outputs",
        {"biases": "of one head"},
    ),
    three_projections=(
        "three projections are counted; the output projection is the fourth",
        {"matrices": "three", "biases": "of three projections", "projecting": "three"},
    ),
    three_matrices=(
        "the parameters of three projections are counted; the output projection is the fourth",
        {"matrices": "three", "biases": "of three projections"},
    ),
    three_projections_at_work=(
        "the multiply-adds of three projections are counted; the output projection is the fourth",
        {"projecting": "three"},
    ),
    products_times_heads=(
        "the products of one head are counted with width d_model and taken n_heads times; a head "
        "is only d_model / n_heads wide",
        {"width": "times heads"},
    ),
    products_of_one_head=(
        "the products of a single head are counted; there are n_heads",
        {"width": "d_head"},
    ),
    products_by_number=(
        "the width is missing from the products: a score is a product of two vectors, d_head "
        "multiply-adds in each head",
        {"width": "number of heads"},
    ),
    products_squared=(
        "the products inside the heads are counted with d_model * d_model; a score takes d_head "
        "multiply-adds in each head, d_model in all",
        {"width": "squared"},
    ),
    one_product_in_each_head=(
        "one of the two products in the heads is missing: queries times keys, and weights times "
        "values",
        {"products": "one"},
    ),
    three_products_in_each_head=(
        "three products in the heads are counted; there are two, queries times keys and weights "
        "times values",
        {"products": "three"},
    ),
    products_forgotten=(
        "only the projections are counted; the two products inside the heads are missing",
        {"products": "none"},
    ),
    projections_forgotten=(
        "only the products inside the heads are counted; the four projections are missing",
        {"projecting": "forgotten"},
    ),
    projected_once=(
        "the projections are counted for one token; each of the T tokens is projected",
        {"projecting": "for one token"},
    ),
    tokens_counted_once=(
        "T is counted once in the products; every token meets every other, which makes T * T",
        {"pairs": "T"},
    ),
    causal_pairs=(
        "only the pairs under a causal mask are counted; without one every token meets every other",
        {"pairs": "causal"},
    ),
    counted_twice=(
        "multiplications and additions are counted separately; a pair of them is one multiply-add",
        {"doubled": True},
    ),
    additions_of_biases=(
        "the additions of the biases are counted as multiply-adds; leave them out",
        {"additions": "of biases"},
    ),
    softmax_counted=(
        "the softmax, or the division, is counted with one operation per score; leave it out",
        {"softmax": True},
    ),
    cost_in_reverse=(
        "the two results are exchanged: the parameters come first",
        {"exchanged": True},
    ),
)


# --- 2.9 read_heads ---


def read_as(name: str, letter: str) -> dict[str, str]:
    """The right answer with one wrong letter."""
    right = {"previous token": "C", "same token": "D", "induction": "B", "first token": "A"}
    return {**right, name: letter}


def a_looks_at_the_first() -> dict[str, str]:
    """in A every row is brightest in the same column; the previous token is in another one for each
    row"""
    return read_as("previous token", "A")


def b_looks_five_back() -> dict[str, str]:
    """the stripe of B lies five below the diagonal; the previous token lies one below"""
    return read_as("previous token", "B")


def d_looks_six_back() -> dict[str, str]:
    """the stripe of D lies six below the diagonal; the previous token lies one below"""
    return read_as("previous token", "D")


def a_is_one_column() -> dict[str, str]:
    """in A all rows look at one position; the earlier self is in another column for each row"""
    return read_as("same token", "A")


def b_looks_past_its_self() -> dict[str, str]:
    """in B the second d looks at the b after the first d, not at the first d"""
    return read_as("same token", "B")


def c_looks_at_another() -> dict[str, str]:
    """in C a token looks one position back, at another letter"""
    return read_as("same token", "C")


def a_finds_nothing() -> dict[str, str]:
    """A looks at the first position, whatever the letter; an induction head looks at another one
    for each letter"""
    return read_as("induction", "A")


def c_is_the_helper() -> dict[str, str]:
    """C looks one position back, which helps an induction head of the next layer; the induction
    head itself looks at the earlier copy"""
    return read_as("induction", "C")


def d_is_one_too_early() -> dict[str, str]:
    """D looks at the earlier copy of the letter itself; an induction head looks one further, at
    what came next"""
    return read_as("induction", "D")


def b_moves_along() -> dict[str, str]:
    """the bright cells of B move along with the query; the first token is always in column 0"""
    return read_as("first token", "B")


def c_moves_along() -> dict[str, str]:
    """the bright cells of C move along with the query; the first token is always in column 0"""
    return read_as("first token", "C")


def d_moves_along() -> dict[str, str]:
    """the bright cells of D move along with the query; the first token is always in column 0"""
    return read_as("first token", "D")


# --- 2.10 induction_score ---


def score_with(
    weights: Tensor,
    period: int,
    *,
    shift: int = 0,
    earlier: str = "one period back",
    first: str = "period",
    last: str = "T",
    exchanged: bool = False,
    picked: str = "weights",
    over_positions: str = "mean",
    over_texts: str = "mean",
    over_heads: str = "kept",
) -> Tensor:
    """The scores."""
    T = weights.size(-1)
    start = {"period": period, "period - 1": period - 1, "period + 1": period + 1, "0": 0}.get(
        first, 0
    )
    start = max(period, T - period) if first == "last copy" else start
    end = {"T": T, "T - 1": T - 1, "second copy": min(2 * period, T)}[last]
    i = torch.arange(start, end)
    there = {"one period back": i - period + 1, "previous": i - 1, "next": i + 1, "itself": i}[
        earlier
    ]
    keys = there + shift
    weights = weights.mT if exchanged else weights
    if picked == "all pairs":
        stripe = weights[:, :, i][..., keys].flatten(2)
    elif picked == "all copies":
        copies = [[weights[:, :, at, j] for j in range(at - period + 1, 0, -period)] for at in i]
        stripe = torch.stack([torch.stack(one).sum(0) for one in copies], -1)
    elif picked == "largest at the right place":
        stripe = (weights[:, :, i].argmax(-1) == keys).to(weights.dtype)
    elif picked == "largest of the row":
        stripe = weights[:, :, i].amax(-1)
    elif picked == "diagonal":
        stripe = weights.diagonal(shift + 1 - period, -2, -1)
    elif picked == "from the row's sum":
        stripe = weights[:, :, i, keys] / weights[:, :, i].sum(-1)
    elif picked == "window":
        stripe = weights[:, :, i, keys] + weights[:, :, i, keys - 1]
    else:
        stripe = weights[:, :, i, keys]  # (B, n_heads, positions)
    if over_heads == "texts and heads confused":
        stripe = stripe.transpose(0, 1)
    return OVER_TEXTS[over_texts](over_positions_of(stripe, over_positions, T, period), over_heads)


def over_positions_of(stripe: Tensor, kind: str, T: int, period: int) -> Tensor:
    """One number for all positions."""
    if kind == "mean":
        return stripe.mean(-1)
    if kind == "largest":
        return stripe.amax(-1)
    if kind == "median":
        return stripe.median(-1).values
    if kind == "last":
        return stripe[..., -1]
    n = stripe.size(-1)
    sums = {
        "sum": 1,
        "T": T,
        "period": period,
        "n + 1": n + 1,
        "n - 1": max(n - 1, 1),
        "T * T": T * T,
    }
    return stripe if kind == "kept" else stripe.sum(-1) / sums[kind]


def over_texts_of(kind: str) -> Any:
    """A function of the scores (B, n_heads) and of what becomes of the heads."""

    def scores(each: Tensor, over_heads: str) -> Tensor:
        each = each / each.size(1) if over_heads == "divided" else each
        if over_heads == "mean":
            each = each.mean(1, keepdim=True).squeeze(1) if kind == "kept" else each.mean(1, True)
        if kind == "kept":
            return each
        score = {"mean": each.mean, "sum": each.sum, "largest": each.amax}[kind](0)
        return score.squeeze() if over_heads == "mean" else score

    return scores


OVER_TEXTS = {kind: over_texts_of(kind) for kind in ("mean", "sum", "largest", "kept")}
OVER_TEXTS["first"] = lambda each, over_heads: each[0]

TOO_FAR = "this looks two places after the earlier one; the next is i - period + 1"
SAME_TOKEN = (
    "this looks at the earlier place itself, i - period; an induction head looks at the token "
    "after it"
)
FROM_THE_SAME_START = (
    "the stripe begins at position period - 1, where nothing has been repeated yet; begin at "
    "position `period`"
)

SCORE = mistakes(
    score_with,
    score_of_the_same_token=(SAME_TOKEN, {"shift": -1}),
    score_two_after=(TOO_FAR, {"shift": 1}),
    score_two_after_by_diagonal=(TOO_FAR, {"shift": 1, "picked": "diagonal"}),
    score_before_the_earlier_place=(
        "this looks at the place before the earlier one; an induction head looks at the token "
        "after it, i - period + 1",
        {"shift": -2},
    ),
    score_of_the_previous_token=(
        "this is the weight on the token before, i - 1; the earlier copy lies `period` back",
        {"earlier": "previous"},
    ),
    score_of_itself=(
        "this is the weight of each token on itself; the earlier copy lies `period` back",
        {"earlier": "itself"},
    ),
    one_position_too_many=(FROM_THE_SAME_START, {"first": "period - 1"}),
    one_position_too_few=(
        "the first position of the second copy, position `period`, is left out",
        {"first": "period + 1"},
    ),
    position_zero_too=(
        "all positions from 0 on are looked at, and negative keys count from the end; begin at "
        "position `period`",
        {"first": "0"},
    ),
    last_copy_only=(
        "only the last `period` positions are looked at; every position from `period` on counts",
        {"first": "last copy"},
    ),
    last_position_left_out=(
        "the last position is left out; it has an earlier copy as well",
        {"last": "T - 1"},
    ),
    second_copy_only=(
        "only the second copy is looked at; every position from `period` on counts",
        {"last": "second copy"},
    ),
    keys_taken_for_queries=(
        "rows and columns are exchanged: the query i is the row, the key i - period + 1 the column",
        {"exchanged": True},
    ),
    all_pairs=(
        "rows and columns are picked one after the other, which gives every pair of them; only the "
        "pairs (i, i - period + 1) count",
        {"picked": "all pairs"},
    ),
    all_earlier_copies=(
        "the weights after all earlier copies are added up; only the place `period` back counts",
        {"picked": "all copies"},
    ),
    hits_counted=(
        "this counts how often the largest weight is at the right place; take the mean of the "
        "weights themselves",
        {"picked": "largest at the right place"},
    ),
    largest_of_the_row=(
        "this is the largest weight of each row, wherever it is; take the weight on i - period + 1",
        {"picked": "largest of the row"},
    ),
    both_places=(
        "the weight on the earlier place itself is added; only that on the token after it counts",
        {"picked": "window"},
    ),
    divided_by_all_positions=(
        "the sum is divided by all T positions; only those from `period` on are looked at",
        {"over_positions": "T"},
    ),
    divided_by_the_period=(
        "the sum is divided by the period; divide by the number of positions that are looked at",
        {"over_positions": "period"},
    ),
    divided_by_one_more=(
        "the sum is divided by one more than the number of positions, T - period",
        {"over_positions": "n + 1"},
    ),
    divided_by_one_less=(
        "the sum is divided by one less than the number of positions, T - period",
        {"over_positions": "n - 1"},
    ),
    mean_of_the_whole_map=(
        "the sum is divided by all T * T entries of the map; only T - period of them are looked at",
        {"over_positions": "T * T"},
    ),
    summed_not_averaged=(
        "the weights are added up over the positions; take their mean",
        {"over_positions": "sum"},
    ),
    everything_summed=(
        "the weights are added up over texts and positions; take their mean",
        {"over_positions": "sum", "over_texts": "sum"},
    ),
    texts_summed=(
        "the means of the texts are added up; take their mean over the batch as well",
        {"over_texts": "sum"},
    ),
    largest_weight=(
        "the largest weight of the stripe is taken; take the mean",
        {"over_positions": "largest", "over_texts": "largest"},
    ),
    largest_weight_of_each_text=(
        "the largest weight of the stripe is taken in each text; take the mean",
        {"over_positions": "largest"},
    ),
    median_weight=(
        "the median of the stripe is taken; take the mean",
        {"over_positions": "median"},
    ),
    weight_at_the_last_position=(
        "only the last position is looked at; every position from `period` on counts",
        {"over_positions": "last"},
    ),
    score_per_position=(
        "there is a score per position, (n_heads, T - period); take the mean over the positions as "
        "well",
        {"over_positions": "kept"},
    ),
    score_per_text=(
        "there is a score per text and head, (B, n_heads); take the mean over the batch as well",
        {"over_texts": "kept"},
    ),
    score_of_the_first_text=(
        "only the first text is looked at; take the mean over the batch as well",
        {"over_texts": "first"},
    ),
    score_of_all_heads=(
        "there is a single number for all heads; each head has a score of its own",
        {"over_heads": "mean"},
    ),
    divided_by_the_heads=(
        "the scores are divided by the number of heads; each head has a score of its own",
        {"over_heads": "divided"},
    ),
    mean_over_the_heads=(
        "the mean runs over heads and positions and leaves the batch; it should leave the heads",
        {"over_heads": "texts and heads confused"},
    ),
)


# --- 2.11 repeat_kv ---


def repeat_with(
    x: Tensor,
    n_repeats: int,
    *,
    order: str = "neighbours",
    number: str = "n_repeats",
    reverse: bool = False,
    factor: str = "one",
    finish: str = "joined",
) -> Any:
    """The repeated heads."""
    n_repeats = {"n_repeats": n_repeats, "one more": n_repeats + 1, "one less": n_repeats - 1}[
        number
    ]
    repeated = REPEATS[order](x.flip(1) if reverse else x, n_repeats)
    if factor == "mean":
        repeated = repeated / n_repeats
    elif factor == "root":
        repeated = repeated / math.sqrt(n_repeats)
    elif factor == "zeros":
        first = torch.arange(repeated.size(1)) % n_repeats == 0
        repeated = repeated * first[:, None, None]
    if finish == "five axes":
        return repeated.unflatten(1, (x.size(1), -1))
    if finish == "tokens before heads":
        return repeated.transpose(1, 2)
    return repeated.squeeze() if finish == "squeezed" else repeated


def shape_of(x: Tensor, n: int) -> tuple[int, ...]:
    """(B, n_kv_heads * n, T, d_head)."""
    return (len(x), n * x.size(1), *x.shape[2:])


def by_number_of_heads(x: Tensor, n: int) -> Tensor:
    """Query head h reads head h // n_kv_heads, as far as there is one."""
    heads = torch.arange(x.size(1) * n) // x.size(1)
    return x[:, heads.clamp(max=x.size(1) - 1)]


REPEATS = {
    "neighbours": right_repeat,
    "alternating": lambda x, n: x.repeat(1, n, 1, 1),
    "tokens": lambda x, n: x.repeat_interleave(n, 2),
    "text": lambda x, n: x.repeat(1, 1, n, 1),
    "batch": lambda x, n: x.repeat(n, 1, 1, 1),
    "texts": lambda x, n: x.repeat_interleave(n, 0),
    "features": lambda x, n: x.repeat(1, 1, 1, n),
    "each feature": lambda x, n: x.repeat_interleave(n, -1),
    "after tokens": lambda x, n: x[:, :, :, None].expand(-1, -1, -1, n, -1).reshape(shape_of(x, n)),
    "after features": lambda x, n: x[..., None].expand(-1, -1, -1, -1, n).reshape(shape_of(x, n)),
    "before the batch": lambda x, n: x[None].expand(n, -1, -1, -1, -1).reshape(shape_of(x, n)),
    "before tokens, as tokens": lambda x, n: x.repeat(1, 1, n, 1).reshape(shape_of(x, n)),
    "view after expand": lambda x, n: x[:, :, None].expand(-1, -1, n, -1, -1).view(shape_of(x, n)),
    "expand alone": lambda x, n: x.expand(-1, n * x.size(1), -1, -1),
    "first": lambda x, n: x[:, :1].expand(-1, x.size(1) * n, -1, -1),
    "last": lambda x, n: x[:, -1:].expand(-1, x.size(1) * n, -1, -1),
    "n_repeats in all": lambda x, n: x[:, :1].expand(-1, n, -1, -1),
    "not": lambda x, n: x.clone(),
    "by the number of heads": by_number_of_heads,
}

REPEAT = mistakes(
    repeat_with,
    copies_alternate=(
        "the copies alternate, 0 1 0 1; the copies of a head must be neighbours, 0 0 1 1",
        {"order": "alternating"},
    ),
    tokens_repeated=("the tokens are repeated; repeat the heads, axis 1", {"order": "tokens"}),
    text_repeated=(
        "the text of each head is repeated after itself, axis 2; repeat the heads, axis 1",
        {"order": "text"},
    ),
    batch_repeated=("the batch is repeated; repeat the heads, axis 1", {"order": "batch"}),
    batch_repeated_in_place=(
        "the texts of the batch are repeated; repeat the heads, axis 1",
        {"order": "texts"},
    ),
    features_repeated=(
        "the features are repeated; repeat the heads, axis 1",
        {"order": "features"},
    ),
    each_feature_repeated=(
        "each feature is repeated beside itself; repeat the heads, axis 1",
        {"order": "each feature"},
    ),
    copies_not_joined=(
        "heads and copies are still two axes; join them into one of n_kv_heads * n_repeats",
        {"finish": "five axes"},
    ),
    copies_behind_tokens=(
        "the new axis is after the tokens, so the copies of a token become neighbours and mix "
        "with other tokens in the reshape; it belongs right after the heads",
        {"order": "after tokens"},
    ),
    copies_behind_features=(
        "the new axis is after the features, so each feature is repeated and the reshape "
        "mixes tokens; it belongs right after the heads",
        {"order": "after features"},
    ),
    copies_before_the_batch=(
        "the new axis is before the batch, so the reshape mixes the texts; it belongs right "
        "after the heads",
        {"order": "before the batch"},
    ),
    view_after_expand=(
        "view refuses what expand has stretched: the copies take no place in memory, so two axes "
        "cannot become one without a copy; reshape copies",
        {"order": "view after expand"},
    ),
    stretched_without_a_new_axis=(
        "expand stretches axes of size 1 only; put in such an axis after the heads first",
        {"order": "expand alone"},
    ),
    first_head_repeated=("all copies are of head 0; every head is repeated", {"order": "first"}),
    last_head_repeated=(
        "all copies are of the last head; every head is repeated",
        {"order": "last"},
    ),
    by_the_number_of_heads=(
        "query head h reads head h // n_kv_heads; it reads h // n_repeats",
        {"order": "by the number of heads"},
    ),
    heads_in_reverse_order=(
        "the heads come in reverse order; the copies of head 0 come first",
        {"reverse": True},
    ),
    one_copy_too_many=(
        "there is one copy too many: n_repeats counts the head itself",
        {"number": "one more"},
    ),
    one_copy_too_few=(
        "there is one copy too few: n_repeats counts the head itself, and no more",
        {"number": "one less"},
    ),
    n_repeats_heads=(
        "there are n_repeats heads in all; each of the n_kv_heads heads is repeated that often",
        {"order": "n_repeats in all"},
    ),
    nothing_repeated=("nothing is repeated: x comes back as it was", {"order": "not"}),
    copies_divided=(
        "the copies are divided by n_repeats; each query head needs the head as it is",
        {"factor": "mean"},
    ),
    copies_scaled=(
        "the copies are divided by the square root of n_repeats; each query head needs the head as "
        "it is",
        {"factor": "root"},
    ),
    copies_of_zeros=(
        "the copies are zeros: only the first of each group holds the head",
        {"factor": "zeros"},
    ),
    repeated_heads_behind_tokens=(
        "the heads are after the tokens; the result is (B, n_kv_heads * n_repeats, T, d_head)",
        {"finish": "tokens before heads"},
    ),
    repeated_and_squeezed=(
        "a squeeze removes every axis of size 1, so the batch is lost for one text; keep all four "
        "axes",
        {"finish": "squeezed"},
    ),
)


# --- 2.12 kv_cache_bytes ---


def bytes_with(
    B: int,
    T: int,
    n_layers: int,
    n_kv_heads: int,
    d_head: int,
    bytes_per_value: int = 2,
    *,
    kinds: int = 2,
    texts: str = "B",
    tokens: str = "T",
    layers: str = "n_layers",
    heads: str = "n_kv_heads times d_head",
    size: str = "bytes_per_value",
    unit: float = 1,
    whole: bool = False,
) -> float:
    """The number of bytes."""
    number = kinds
    number *= {"B": B, "missing": 1, "squared": B**2}[texts]
    number *= {
        "T": T,
        "missing": 1,
        "T * T": T**2,
        "every step": T * (T + 1) // 2,
        "T - 1": T - 1,
        "T + 1": T + 1,
        "steps before": T * (T - 1) // 2,
    }[tokens]
    number *= {"n_layers": n_layers, "missing": 1}[layers]
    number *= {
        "n_kv_heads times d_head": n_kv_heads * d_head,
        "d_head": d_head,
        "n_kv_heads": n_kv_heads,
        "added": n_kv_heads + d_head,
        "d_head // n_kv_heads": d_head / n_kv_heads,
        "d_head squared": n_kv_heads * d_head**2,
        "n_kv_heads squared": n_kv_heads**2 * d_head,
    }[heads]
    number *= {
        "bytes_per_value": bytes_per_value,
        "missing": 1,
        "always 2": 2,
        "always 4": 4,
        "squared": bytes_per_value**2,
    }[size]
    number = number / unit if unit > 1 else number * round(1 / unit)
    return int(number) if whole else number


LARGER_UNIT = "the result is in a larger unit; bytes are asked for, without a division"
EVERY_STEP = (
    "the caches of all steps are added up; the cache grows by one token per step, and holds T of "
    "them in the end"
)

BYTES = mistakes(
    bytes_with,
    keys_only=("only one of the two is counted; there are keys and values", {"kinds": 1}),
    queries_kept_too=(
        "the queries are counted too; an old query is never needed again, so it is not kept",
        {"kinds": 3},
    ),
    kinds_counted_twice=(
        "keys and values are counted twice: a factor of 2 stands for both of them",
        {"kinds": 4},
    ),
    numbers_counted=(
        "values are counted; multiply them by bytes_per_value",
        {"size": "missing"},
    ),
    always_two_bytes=(
        "two bytes per value are taken, whatever bytes_per_value says",
        {"size": "always 2"},
    ),
    always_four_bytes=(
        "four bytes per value are taken, whatever bytes_per_value says",
        {"size": "always 4"},
    ),
    bytes_in_place_of_two=(
        "bytes_per_value is multiplied twice, and the 2 of keys and values is missing; the two "
        "are equal only for numbers of 2 bytes",
        {"kinds": 1, "size": "squared"},
    ),
    bytes_multiplied_twice=(
        "bytes_per_value is multiplied twice; once is right",
        {"size": "squared"},
    ),
    one_layer=(
        "n_layers is missing: each layer has keys and values of its own",
        {"layers": "missing"},
    ),
    one_text=("B is missing: each text has keys and values of its own", {"texts": "missing"}),
    one_kv_head=(
        "n_kv_heads is missing: each key-value head has keys and values of its own",
        {"heads": "d_head"},
    ),
    width_forgotten=(
        "d_head is missing: a key is a vector of d_head numbers, and so is a value",
        {"heads": "n_kv_heads"},
    ),
    factors_added=(
        "sizes are added where they should be multiplied: n_kv_heads heads of width d_head are "
        "n_kv_heads * d_head numbers",
        {"heads": "added"},
    ),
    width_divided=(
        "d_head is divided by the number of heads; it is the width of each head already",
        {"heads": "d_head // n_kv_heads"},
    ),
    matrices_of_d_head=(
        "d_head is counted twice; a key is a vector of d_head numbers, not a matrix",
        {"heads": "d_head squared"},
    ),
    heads_counted_twice=(
        "n_kv_heads is counted twice; d_head is the width of one head",
        {"heads": "n_kv_heads squared"},
    ),
    one_token=("T is missing: all tokens so far are kept", {"tokens": "missing"}),
    pairs_of_tokens=(
        "T is counted twice; the cache holds one key and one value per token, and no scores",
        {"tokens": "T * T"},
    ),
    every_step=(EVERY_STEP, {"tokens": "every step"}),
    every_step_before=(EVERY_STEP, {"tokens": "steps before"}),
    last_token_left_out=("one token too few is counted; all T are kept", {"tokens": "T - 1"}),
    one_token_more=("one token too many is counted; T are kept", {"tokens": "T + 1"}),
    bits_counted=("bits are counted; a byte has eight of them", {"unit": 1 / 8}),
    kibibytes=(LARGER_UNIT, {"unit": 2**10}),
    mebibytes=(LARGER_UNIT, {"unit": 2**20}),
    gibibytes=(LARGER_UNIT, {"unit": 2**30}),
    kilobytes=(LARGER_UNIT, {"unit": 1e3}),
    megabytes=(LARGER_UNIT, {"unit": 1e6}),
    gigabytes=(LARGER_UNIT, {"unit": 1e9}),
    whole_kibibytes=(LARGER_UNIT, {"unit": 2**10, "whole": True}),
    whole_mebibytes=(LARGER_UNIT, {"unit": 2**20, "whole": True}),
    whole_gibibytes=(LARGER_UNIT, {"unit": 2**30, "whole": True}),
    whole_megabytes=(LARGER_UNIT, {"unit": 1e6, "whole": True}),
)


# --- 2.13 GroupedQueryAttention ---


class GroupedWith(nn.Module):
    """The layer of 2.13."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        bias: bool = True,
        *,
        kv_width: str = "n_kv_heads heads",
        queries: str = "d_model",
        values: str = "like keys",
        projections: str = "square",
        biases: str = "as asked",
        by: tuple[str, str, str] = NAMES[:3],
        kv_splits: str = "n_kv_heads",
        split: str = "right",
        merge: str = "right",
        repeated: str = "by attend",
        grouping: str = "neighbours",
        masking: str = "handed on",
        attending: str = "once",
        scaled: str = "by attend",
        finish: str = "projected",
        residual: bool = False,
        returned: str = "output",
    ) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.by, self.split, self.merge = by, split, merge
        self.kv_splits = {"n_kv_heads": n_kv_heads, "n_heads": n_heads, "one": 1}[kv_splits]
        self.repeated, self.grouping = repeated, grouping
        self.masking, self.attending, self.scaled = masking, attending, scaled
        self.finish, self.residual, self.returned = finish, residual, returned
        width = {
            "n_kv_heads heads": n_kv_heads * (d_model // n_heads),
            "full": d_model,
            "one head": d_model // n_heads,
            "divided by n_kv_heads": d_model // n_kv_heads,
            "n_kv_heads": n_kv_heads,
            "n_repeats": n_heads // n_kv_heads * (d_model // n_heads),
            "times": d_model * n_kv_heads,
        }[kv_width]
        widths = (
            width if queries == "narrow" else d_model,
            d_model if values == "keys wide" else width,
            d_model if values == "wide" else width,
            d_model,
        )
        make_projections(self, projections, widths, n_heads)
        if queries == "narrow output":
            self.out_proj = Linear(width, d_model)
        set_biases(self, biases, bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = right_grouped,
    ) -> Any:
        counts = (self.n_heads, self.kv_splits, self.kv_splits)
        q, k, v = (
            SPLITS[self.split](self.get_submodule(name)(x), count)
            for name, count in zip(self.by, counts, strict=True)
        )
        n_repeats = q.size(1) // k.size(1)
        if self.finish == "values":
            v = self.out_proj(v)
        k, v = KV[self.repeated](k, n_repeats), KV[self.repeated](v, n_repeats)
        q, k = SCALES[self.scaled](q, k)
        if self.grouping == "alternating":
            q = q.unflatten(1, (n_repeats, -1)).transpose(1, 2).flatten(1, 2)
        mask = MASKS[self.masking](mask, x.size(1))
        output, weights = GROUPED_ATTENDS[self.attending](attend, q, k, v, mask)
        if self.grouping == "alternating":
            output = output.unflatten(1, (-1, n_repeats)).transpose(1, 2).flatten(1, 2)
        merged = MERGES[self.merge](output)
        if self.finish in ("projected", "twice"):
            merged = self.out_proj(merged)
        merged = self.out_proj(merged) if self.finish == "twice" else merged
        merged = x + merged if self.residual else merged
        return (merged, weights) if self.returned == "pair" else merged


KV = {
    "by attend": lambda x, n: x,
    "neighbours": right_repeat,
    "alternating": lambda x, n: x.repeat(1, n, 1, 1),
    "averaged": lambda x, n: x.mean(1, keepdim=True),
    "first": lambda x, n: x[:, :1],
    "reverse": lambda x, n: x.flip(1),
}


def query_head_after_query_head(
    attend: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Any:
    """One call per query head."""
    n_repeats = q.size(1) // k.size(1)
    per_head = None if mask is None else mask.expand(len(q), q.size(1), -1, -1)
    parts = []
    for h in range(q.size(1)):
        own, kv = slice(h, h + 1), slice(h // n_repeats, h // n_repeats + 1)
        its_mask = None if per_head is None else per_head[:, own]
        parts.append(attend(q[:, own], k[:, kv], v[:, kv], its_mask)[0])
    return torch.cat(parts, 1), None


def group_after_group(attend: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Any:
    """One call per key-value head."""
    n_repeats = q.size(1) // k.size(1)
    per_head = None if mask is None else mask.expand(len(q), q.size(1), -1, -1)
    parts = []
    for g in range(k.size(1)):
        own, kv = slice(g * n_repeats, (g + 1) * n_repeats), slice(g, g + 1)
        its_mask = None if per_head is None else per_head[:, own]
        parts.append(attend(q[:, own], k[:, kv], v[:, kv], its_mask)[0])
    return torch.cat(parts, 1), None


GROUPED_ATTENDS = {
    **{name: ATTENDS[name] for name in ("once", "second part", "not unpacked", "twice")},
    "keys and values exchanged": ATTENDS["keys and values exchanged"],
    "own": lambda attend, q, k, v, mask: right_grouped(q, k, v, mask),
    "plain": lambda attend, q, k, v, mask: right_attention(q, k, v, mask),
    "head after head": query_head_after_query_head,
    "group after group": group_after_group,
}

GROUPED_PER_HEAD = (
    "attend is called for one head or group after the other; call it once, with all heads of q and "
    "the few of k and v"
)

GROUPED = mistakes(
    GroupedWith,
    FullWidthForAll=(
        "k_proj and v_proj are as wide as q_proj; they make n_kv_heads heads only",
        {"kv_width": "full"},
    ),
    WidthOfOneHead=(
        "k_proj and v_proj make a single head; they make n_kv_heads heads",
        {"kv_width": "one head"},
    ),
    WidthDividedByKvHeads=(
        "k_proj and v_proj are d_model / n_kv_heads wide; they make n_kv_heads heads of the width "
        "of a query head, d_model / n_heads",
        {"kv_width": "divided by n_kv_heads"},
    ),
    NumberOfHeadsForWidth=(
        "k_proj and v_proj are n_kv_heads wide; each of these heads has d_head features",
        {"kv_width": "n_kv_heads"},
    ),
    GroupedBiasAlways=(
        "the argument bias is not used: with bias=False there must be none",
        {"biases": "always"},
    ),
    GroupedBiasNever=(
        "there are no biases; hand the argument bias on to nn.Linear",
        {"biases": "never"},
    ),
    KeysAndValuesWithoutBias=(
        "k_proj and v_proj have no bias; with bias=True all four projections have one",
        {"biases": "keys and values never"},
    ),
    KeysAndValuesWithBias=(
        "k_proj and v_proj always have a bias; with bias=False there must be none",
        {"biases": "keys and values always"},
    ),
    GroupedBiasExceptAtTheOutput=(
        "out_proj always has a bias; with bias=False there must be none",
        {"biases": "always at the output"},
    ),
    GroupedNoBiasAtTheOutput=(
        "out_proj has no bias; with bias=True all four projections have one",
        {"biases": "never at the output"},
    ),
    GroupedOtherNames=(
        "the projections have other names; they are called q_proj, k_proj, v_proj and out_proj",
        {"projections": "named W"},
    ),
    GroupedNoOutputProjection=(
        "the layer has no output projection, out_proj",
        {"projections": "none at the output"},
    ),
    QueriesNarrowToo=(
        "q_proj is as narrow as k_proj; the queries keep all n_heads heads",
        {"queries": "narrow"},
    ),
    OutputNarrowToo=(
        "out_proj takes the features of n_kv_heads heads; the output has all n_heads heads again",
        {"queries": "narrow output"},
    ),
    OnlyKeysNarrow=(
        "v_proj is as wide as q_proj; the values have n_kv_heads heads, like the keys",
        {"values": "wide"},
    ),
    OnlyValuesNarrow=(
        "k_proj is as wide as q_proj; the keys have n_kv_heads heads, like the values",
        {"values": "keys wide"},
    ),
    RepeatedBeforeAttend=(
        "keys and values are repeated before attend is called; attend repeats them itself, so that "
        "a cache can store the few",
        {"repeated": "neighbours"},
    ),
    RepeatedAlternating=(
        "keys and values are repeated before attend is called, and in the order 0 1 0 1; leave it "
        "to attend",
        {"repeated": "alternating"},
    ),
    QueriesAlternate=(
        "the query heads are sorted before attend, so that head h reads key-value head "
        "h % n_kv_heads; it reads h // n_repeats, its neighbours read the same one",
        {"grouping": "alternating"},
    ),
    KvHeadsAveraged=(
        "the key-value heads are averaged into one; each serves its own group of query heads",
        {"repeated": "averaged"},
    ),
    FirstKvHeadForAll=(
        "all query heads read the first key-value head; each serves its own group",
        {"repeated": "first"},
    ),
    KvHeadsInReverse=(
        "the key-value heads come in reverse order; the first one serves the first query heads",
        {"repeated": "reverse"},
    ),
    GroupedMaskForgotten=("the mask is not handed on to attend", {"masking": "forgotten"}),
    GroupedMaskInverted=(MASK_INVERTED, {"masking": "inverted"}),
    GroupedBooleansInverted=(MASK_INVERTED, {"masking": "booleans inverted"}),
    GroupedMaskTransposed=(
        "the mask is transposed; its rows are queries and its columns keys already",
        {"masking": "turned"},
    ),
    GroupedMaskWithAnAxis=(
        "the mask gets one more axis; it broadcasts to (B, n_heads, T, T) as it is",
        {"masking": "with an axis"},
    ),
    GroupedAlwaysCausal=(
        "a causal mask is used where none was handed in; without a mask every token sees all "
        "others",
        {"masking": "causal if none"},
    ),
    GroupedCausalWhateverIsHandedIn=(
        "the mask is always causal; hand on the mask that is handed in, or None",
        {"masking": "causal always"},
    ),
    GroupedOwnAttention=(
        "the argument attend is not used: call it in place of grouped_attention",
        {"attending": "own"},
    ),
    PlainAttentionCalled=(
        "scaled_dot_product_attention is called, which needs as many key heads as query heads; "
        "call attend, which repeats them",
        {"attending": "plain"},
    ),
    GroupedCalledPerHead=(GROUPED_PER_HEAD, {"attending": "head after head"}),
    GroupedCalledPerGroup=(GROUPED_PER_HEAD, {"attending": "group after group"}),
    GroupedPairNotUnpacked=(PAIR_NOT_UNPACKED, {"attending": "not unpacked"}),
    **{f"Grouped{name}": entry for name, entry in PAIRS_HANDED_ON.items()},
    GroupedWeightsTaken=(
        "the second part of attend's result, the weights, is taken for the output; it is the first",
        {"attending": "second part"},
    ),
    GroupedKeysAndValuesExchanged=(
        "keys and values are exchanged: attend takes q, k, v in this order",
        {"attending": "keys and values exchanged"},
    ),
    KeysSplitLikeQueries=(
        "keys and values are split into n_heads heads, which are then narrower than those of the "
        "queries; there are n_kv_heads",
        {"kv_splits": "n_heads"},
    ),
    OneKvHead=(
        "keys and values are not split into heads; there are n_kv_heads of them",
        {"kv_splits": "one"},
    ),
    ValuesByKeyProjection=(
        "the values are made with k_proj; they have a projection of their own, v_proj",
        {"by": ("q_proj", "k_proj", "k_proj")},
    ),
    KeysByValueProjection=(
        "the keys are made with v_proj; they have a projection of their own, k_proj",
        {"by": ("q_proj", "v_proj", "v_proj")},
    ),
    GroupedOutputNotProjected=("the output projection is not used", {"finish": "not projected"}),
    GroupedProjectedTwice=("the output projection is used twice", {"finish": "twice"}),
    GroupedInputAdded=(
        "x is added to the output; a residual connection does not belong to the layer",
        {"residual": True},
    ),
    GroupedSplitByView=(
        "the heads are cut out by a reshape alone, which mixes tokens; split them as in 2.1",
        {"split": "by reshape"},
    ),
    GroupedMergedByView=(
        "the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2",
        {"merge": "by reshape"},
    ),
    GroupedSplitAndMergedByView=(
        "heads are cut out and put together by reshape alone, which mixes tokens; exchange tokens "
        "and heads in both directions, as in 2.1 and 2.2",
        {"split": "by reshape", "merge": "by reshape"},
    ),
    GroupedDealtOut=(
        "the features are dealt out to the heads like cards; a head's features are neighbours, as "
        "in 2.1",
        {"split": "dealt out"},
    ),
    GroupedMergedAlternating=(
        "the features of the heads alternate after the merge; all features of head 0 come first, "
        "as in 2.2",
        {"merge": "alternating"},
    ),
    GroupedScaledTwice=(
        "the queries are divided by the square root of d_head, and attend divides the scores "
        "again; leave it to attend",
        {"scaled": "twice"},
    ),
    GroupedPairReturned=(
        "a pair is returned; only the output is asked for",
        {"returned": "pair"},
    ),
)


class GroupedNotInitialized(GroupedWith):
    """super().__init__() is missing; it must be the first line of __init__"""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)


# --- 2.14 block_sparse_attention ---


def sparse_with(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    block_size: int = 64,
    *,
    needed: str = "any",
    rows: str = "own",
    columns: str = "own",
    kept: str = "all",
    last_queries: str = "kept",
    last_keys: str = "kept",
    inverted: bool = False,
    hidden: str = "-inf",
    softmax: str = "shared",
    divisor: str = "root of d_k",
    empty: str = "zeros",
    always_64: bool = False,
    axes: str = "any",
) -> Tensor:
    """Block-sparse attention."""
    block_size = 64 if always_64 else block_size
    mask = ~mask if inverted else mask
    T_q, T_k = q.size(-2), k.size(-2)
    roots = {
        "root of d_k": math.sqrt(q.size(-1)),
        "none": 1.0,
        "d_k": q.size(-1),
        "root of d_v": math.sqrt(v.size(-1)),
        "root of block_size": math.sqrt(block_size),
        "root of T_k": math.sqrt(T_k),
    }
    q = q / roots[divisor]
    whole_q = T_q // block_size * block_size
    whole_k = T_k // block_size * block_size
    end_q = max(whole_q, 1) if last_queries == "dropped" and whole_q else T_q
    end_k = whole_k if last_keys == "dropped" else T_k
    if last_keys == "dropped if there are others" and whole_k:
        end_k = whole_k
    outputs = []
    for at in range(0, end_q, block_size):
        queries = q[..., at : min(at + block_size, end_q), :]
        own = mask[at : at + queries.size(-2)]
        if rows == "of the first queries":
            own = mask[: queries.size(-2)]
        blocks = needed_blocks(own, at, end_k, block_size, needed)[KEPT[kept]]
        if not blocks:
            if empty == "mean of the values":
                outputs.append(v.mean(-2, keepdim=True) + 0 * queries.sum(-1, keepdim=True))
            elif empty != "left out":
                outputs.append(q.new_zeros((*queries.shape[:-1], v.size(-1))))
            continue
        pieces = []
        for n, block in enumerate(blocks):
            allowed = own[:, block]
            if columns == "first":
                begin = sum(one.stop - one.start for one in blocks[:n])
                allowed = own[:, begin : begin + block.stop - block.start]
            elif columns == "ignored":
                allowed = torch.ones_like(allowed)
            elif columns == "causal":
                i = torch.arange(at, at + queries.size(-2))[:, None]
                allowed = torch.arange(block.start, block.stop) <= i
            scores = queries @ k[..., block, :].mT
            pieces.append((scores, allowed, v[..., block, :]))
        outputs.append(mixed(pieces, softmax, hidden, empty))
    result = torch.cat(outputs, dim=-2) if outputs else q.new_zeros((*q.shape[:-1], v.size(-1)))
    if last_queries == "zeros" and whole_q < T_q and whole_q:
        result = torch.cat([result[..., :whole_q, :], 0 * result[..., whole_q:, :]], dim=-2)
    return result.squeeze() if axes == "squeezed" else result


KEPT = {
    "all": slice(None),
    "first": slice(0, 1),
    "last": slice(-1, None),
    "but the last": slice(0, -1),
    "but the first": slice(1, None),
}


def needed_blocks(own: Tensor, at: int, end: int, block_size: int, kind: str) -> list[slice]:
    """The columns of the blocks that a block of queries computes."""
    starts = range(0, end, block_size)
    blocks = [slice(start, min(start + block_size, end)) for start in starts]
    some = [n for n, block in enumerate(blocks) if own[:, block].any()]
    if kind == "everything":
        return blocks
    if kind == "from first to last":
        return blocks[some[0] : some[-1] + 1] if some else []
    if kind == "up to the last":
        return blocks[: some[-1] + 1] if some else []
    if kind == "all allowed":
        return [block for block in blocks if own[:, block].all()]
    if kind == "diagonal":
        return [block for n, block in enumerate(blocks) if n == at // block_size]
    if kind == "diagonal and before":
        return [blocks[n] for n in some if n <= at // block_size]
    if kind == "first entry":
        return [block for block in blocks if own[0, block.start]]
    if kind == "first row":
        return [block for block in blocks if own[0, block].any()]
    if kind == "last row":
        return [block for block in blocks if own[-1, block].any()]
    if kind == "diagonal of the block":
        return [block for block in blocks if own[:, block].diagonal().any()]
    return [blocks[n] for n in some]


def mixed(
    pieces: list[tuple[Tensor, Tensor, Tensor]], softmax: str, hidden: str, empty: str
) -> Tensor:
    """The output of one block of queries: scores, masks and values of its blocks."""
    fill = {"-inf": -math.inf, "-1e9": -1e9, "0": 0.0, "-1e4": -1e4, "-100": -100.0}.get(
        hidden, 0.0
    )
    masked = [(s.masked_fill(~m, fill), m, x) for s, m, x in pieces]
    if hidden == "multiplied":
        masked = [(s * m, m, x) for s, m, x in pieces]
    if softmax in ("added", "averaged"):
        parts = [one_softmax(s, x, empty) for s, _, x in masked]
        total = torch.stack(parts).sum(0)
        return total / len(parts) if softmax == "averaged" else total
    if softmax == "overwritten":
        return one_softmax(masked[-1][0], masked[-1][2], empty)
    scores = torch.cat([s for s, _, _ in masked], -1)
    values = torch.cat([x for _, _, x in masked], -2)
    if softmax == "shared":
        return one_softmax(scores, values, empty)
    allowed = torch.cat([m.expand(s.shape) for s, m, _ in masked], -1)
    if softmax == "after the mask":
        weights = right_softmax(torch.cat([s for s, _, _ in pieces], -1), -1) * allowed
        return weights @ values
    if softmax == "of the block":
        scores = torch.cat([s for s, _, _ in pieces], -1)
        exps = torch.exp(scores - scores.amax((-2, -1), keepdim=True)) * allowed
        return (exps @ values) / exps.sum(-1, keepdim=True).clamp(min=1e-20)
    if softmax.startswith("no maximum"):
        exps = torch.exp(scores)
        total = exps.sum(-1, keepdim=True)
        if softmax == "no maximum, clamped":
            return exps @ values / total.clamp(min=1e-20)
        if softmax == "no maximum, nan to zero":
            return (exps @ values / total).nan_to_num()
        return exps @ values / total.masked_fill(total == 0, 1.0)
    if softmax == "not divided":
        largest = scores.amax(-1, keepdim=True)
        return torch.exp(scores - largest.masked_fill(largest == -math.inf, 0.0)) @ values
    if softmax == "without":
        return torch.cat([s * m for s, m, _ in pieces], -1) @ values
    return running(masked, softmax)


def one_softmax(scores: Tensor, values: Tensor, empty: str) -> Tensor:
    """The softmax over all columns, and the values."""
    weights = right_softmax(scores, -1)  # of a row of -inf: zeros
    if empty == "nan":
        weights = weights.masked_fill(weights.sum(-1, keepdim=True) == 0, math.nan)
    return weights @ values


def running(masked: list[tuple[Tensor, Tensor, Tensor]], kind: str) -> Tensor:
    """Online softmax with a mistake in the rescaling."""
    shape = masked[0][0].shape[:-1]
    largest = masked[0][0].new_full((*shape, 1), -1e30)
    total = torch.zeros_like(largest)
    output = masked[0][0].new_zeros((*shape, masked[0][2].size(-1)))
    for scores, _, values in masked:
        new = torch.maximum(largest, scores.amax(-1, keepdim=True))
        factor = torch.exp(largest - new)
        exps = torch.exp(scores - new)
        rescaled = {"running, not rescaled": (1.0, 1.0), "running, sum alone": (factor, 1.0)}
        of_sum, of_output = rescaled.get(kind, (1.0, factor))
        total = total * of_sum + exps.sum(-1, keepdim=True)
        output = output * of_output + exps @ values
        largest = new
    return torch.where(total > 0, output / total.clamp(min=1e-30), torch.zeros_like(output))


NO_MAXIMUM = (
    "exponentials are taken of the scores as they are: large ones overflow, and very negative ones "
    "all become 0; subtract the largest score of the row first"
)
NOT_RESCALED = (
    "the running softmax does not rescale what it has added up: when a later block has a larger "
    "maximum, sum and output so far are multiplied by exp(old - new)"
)
READ_ALL = (
    "all scores are computed and masked afterwards, so forbidden blocks are read; take the keys "
    "and values of the allowed blocks only"
)

SPARSE = mistakes(
    sparse_with,
    blocks_taken_whole=(
        "within the allowed blocks the mask is not applied: a block is computed if it allows "
        "something, and may still forbid a part",
        {"columns": "ignored"},
    ),
    wrong_columns_of_the_mask=(
        "the mask is cut to its first columns, and not to those of the keys that were picked",
        {"columns": "first"},
    ),
    causal_within_blocks=(
        "within the blocks a causal mask is used; use the part of the mask that belongs to the "
        "block",
        {"columns": "causal"},
    ),
    blocks_of_the_first_queries=(
        "every block of queries uses the rows of the mask that belong to the first block; cut the "
        "mask along with the queries",
        {"rows": "of the first queries"},
    ),
    everything_computed=(READ_ALL, {"needed": "everything"}),
    everything_in_between=(
        "all blocks from the first to the last allowed one are computed, the empty ones between "
        "them too; take only those that allow something",
        {"needed": "from first to last"},
    ),
    everything_before=(
        "all blocks up to the last allowed one are computed, the empty ones before it too; take "
        "only those that allow something",
        {"needed": "up to the last"},
    ),
    only_full_blocks=(
        "a block is used only if everything in it is allowed; one allowed pair is enough: any, not "
        "all",
        {"needed": "all allowed"},
    ),
    diagonal_blocks_only=(
        "each block of queries looks at its own block of keys only; the mask says which blocks it "
        "needs",
        {"needed": "diagonal"},
    ),
    blocks_up_to_the_diagonal=(
        "blocks after the diagonal are left out, as if the mask were always causal; the mask says "
        "which blocks are needed",
        {"needed": "diagonal and before"},
    ),
    asked_by_the_first_entry=(
        "whether a block is needed is read from its first entry; any entry may allow something",
        {"needed": "first entry"},
    ),
    asked_by_the_first_row=(
        "whether a block is needed is read from its first row; any row may allow something",
        {"needed": "first row"},
    ),
    asked_by_the_last_row=(
        "whether a block is needed is read from its last row; any row may allow something",
        {"needed": "last row"},
    ),
    first_block_only=(
        "each block of queries uses the first of its allowed blocks only; it may need several",
        {"kept": "first"},
    ),
    last_block_only=(
        "each block of queries uses the last of its allowed blocks only; is something overwritten "
        "in the loop?",
        {"kept": "last"},
    ),
    last_allowed_block_left_out=(
        "each block of queries leaves out the last of its allowed blocks; it needs all of them",
        {"kept": "but the last"},
    ),
    first_allowed_block_left_out=(
        "each block of queries leaves out the first of its allowed blocks; it needs all of them",
        {"kept": "but the first"},
    ),
    last_keys_dropped=(
        "the keys after the last full block are left out; the last block may be smaller",
        {"last_keys": "dropped"},
    ),
    last_keys_dropped_but_one_block=(
        "the keys after the last full block are left out; the last block may be smaller",
        {"last_keys": "dropped if there are others"},
    ),
    last_queries_dropped=(
        "the queries after the last full block are left out; the last block may be smaller",
        {"last_queries": "dropped"},
    ),
    last_queries_zero=(
        "the queries after the last full block get zeros; the last block may be smaller",
        {"last_queries": "zeros"},
    ),
    mask_turned_around=(
        "the mask is used the wrong way round: True means that a query may attend to the key",
        {"inverted": True},
    ),
    softmax_in_each_block=(
        "each block of keys has a softmax of its own, and the results are added up; the keys of a "
        "query share one softmax",
        {"softmax": "added"},
    ),
    mean_of_the_blocks=(
        "each block of keys has a softmax of its own, and the results are averaged; the keys of a "
        "query share one softmax",
        {"softmax": "averaged"},
    ),
    masked_after_the_softmax=(
        "the mask is applied after the softmax, so the rows no longer sum to 1; apply it to the "
        "scores",
        {"softmax": "after the mask"},
    ),
    no_maximum=(NO_MAXIMUM, {"softmax": "no maximum"}),
    no_maximum_but_a_clamp=(NO_MAXIMUM, {"softmax": "no maximum, clamped"}),
    no_maximum_and_nan_hidden=(NO_MAXIMUM, {"softmax": "no maximum, nan to zero"}),
    largest_of_the_whole_block=(
        "the largest score of the whole block is subtracted, not that of each row: a row far below "
        "it underflows to 0",
        {"softmax": "of the block"},
    ),
    running_not_rescaled=(NOT_RESCALED, {"softmax": "running, not rescaled"}),
    running_sum_alone=(NOT_RESCALED, {"softmax": "running, sum alone"}),
    running_output_alone=(NOT_RESCALED, {"softmax": "running, output alone"}),
    exponentials_not_divided=(
        "the exponentials are not divided by their sum",
        {"softmax": "not divided"},
    ),
    sparse_without_softmax=(
        "the softmax is missing: the scores themselves weight the values",
        {"softmax": "without"},
    ),
    nan_within_blocks=(
        "a query that may attend to nothing gets nan, because the softmax of a row of -inf is "
        "0 / 0; lesson 01's attention gives zeros",
        {"empty": "nan"},
    ),
    large_negative_number=(
        "masked scores are a large negative number: a query that may attend to nothing then "
        "attends to all keys equally; with -inf it gets zeros",
        {"hidden": "-1e9"},
    ),
    smaller_negative_number=(
        "masked scores are -10,000, and the scores themselves may be as low; use -inf",
        {"hidden": "-1e4"},
    ),
    zero_for_masked_scores=(
        "masked scores become 0, and exp(0) = 1 still gets weight; only -inf gets none",
        {"hidden": "0"},
    ),
    mean_for_empty_rows=(
        "a block of queries that sees nothing gets the mean of all values; it gets zeros",
        {"empty": "mean of the values"},
    ),
    empty_rows_left_out=(
        "a block of queries that sees nothing is left out of the output; it gets zeros",
        {"empty": "left out"},
    ),
    sparse_not_scaled=(
        "the division of the scores by the square root of d_k is missing",
        {"divisor": "none"},
    ),
    sparse_scaled_by_d_k=(
        "the scores are divided by d_k; divide by its square root",
        {"divisor": "d_k"},
    ),
    sparse_scaled_by_d_v=(
        "the scores are divided by the square root of d_v, the width of the values; d_k is that of "
        "queries and keys",
        {"divisor": "root of d_v"},
    ),
    sparse_scaled_by_the_block=(
        "the scores are divided by the square root of the block size; divide by that of d_k",
        {"divisor": "root of block_size"},
    ),
    blocks_of_64=(
        "the blocks are of 64, whatever block_size says",
        {"always_64": True},
    ),
)


def all_at_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    return right_attention(q, k, v, mask)[0]


all_at_once.__doc__ = READ_ALL


def all_at_once_with_a_large_number(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """all scores are computed, and masked with a large negative number: forbidden blocks are read,
    and a query that may attend to nothing attends to all keys equally; take the allowed blocks
    only, and use -inf"""
    scores = (q @ k.mT / math.sqrt(q.size(-1))).masked_fill(~mask, -1e9)
    return right_softmax(scores, -1) @ v


MISCONCEPTIONS = {
    "split_heads": SPLIT,
    "merge_heads": MERGE,
    "predict_regrouped": (
        real_head_1,
        piece_0,
        piece_2,
        real_head_2,
        real_head_0,
        begins_at_feature_2,
        whole_of_token_1,
        down_the_columns,
        dealt_out,
        counted_through,
        one_too_early,
        one_too_late,
        rows_exchanged,
        real_head_1_by_columns,
        real_head_2_by_columns,
        begins_at_feature_1,
        read_backwards,
        half_of_each,
    ),
    "MultiHeadAttention": (*LAYER, NotInitialized),
    "split_qkv": QKV,
    "cross_attend": CROSS,
    "head_contributions": CONTRIBUTIONS,
    "layer_cost": COST,
    "read_heads": (
        a_looks_at_the_first,
        b_looks_five_back,
        d_looks_six_back,
        a_is_one_column,
        b_looks_past_its_self,
        c_looks_at_another,
        a_finds_nothing,
        c_is_the_helper,
        d_is_one_too_early,
        b_moves_along,
        c_moves_along,
        d_moves_along,
    ),
    "induction_score": SCORE,
    "repeat_kv": REPEAT,
    "kv_cache_bytes": BYTES,
    "GroupedQueryAttention": (*GROUPED, GroupedNotInitialized),
    "block_sparse_attention": (*SPARSE, all_at_once, all_at_once_with_a_large_number),
}
