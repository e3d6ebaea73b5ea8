"""Common wrong answers to the exercises of lesson 02; each docstring is the diagnosis.

A learner whose result equals that of one of them is shown its docstring. `MISCONCEPTIONS` lists
them by the function or class that they imitate; a wrong class is built with the learner's weights.
"""

import math

import torch
from torch import Tensor, nn

from attention import AttentionFunction, apply_mask, causal_mask
from attention import scaled_dot_product_attention as right_attention
from grouped_query_attention import grouped_attention as right_grouped
from grouped_query_attention import repeat_kv as right_repeat
from multi_head import merge_heads as right_merge
from multi_head import split_heads as right_split

# --- 2.1 split_heads ---


def viewed_without_transpose(x: Tensor, n_heads: int) -> Tensor:
    """the shape is made in one step, and view keeps the order in memory: a head gets a few whole
    tokens, not a few features of every token; cut the last axis first, then exchange two axes"""
    B, T, width = x.shape
    return x.view(B, n_heads, T, width // n_heads)


def reshaped_without_transpose(x: Tensor, n_heads: int) -> Tensor:
    """the shape is made in one step, and reshape keeps the order of the numbers: a head gets a few
    whole tokens, not a few features of every token; cut the last axis first, then exchange two
    axes"""
    B, T, width = x.shape
    return x.reshape(B, n_heads, T, width // n_heads)


def heads_after_tokens(x: Tensor, n_heads: int) -> Tensor:
    """the heads still stand behind the tokens, (B, T, n_heads, d_head); exchange these two axes"""
    return right_split(x, n_heads).transpose(1, 2)


def features_dealt_out(x: Tensor, n_heads: int) -> Tensor:
    """the features are dealt out like cards, each head gets every n_heads-th; a head's features are
    neighbours, so n_heads comes before d_head in the view"""
    B, T, width = x.shape
    return x.reshape(B, T, width // n_heads, n_heads).permute(0, 3, 1, 2)


def as_many_heads_as_features(x: Tensor, n_heads: int) -> Tensor:
    """the number of heads and their width are exchanged: there are n_heads heads, each of width
    x.size(-1) // n_heads"""
    return right_split(x, x.size(-1) // n_heads)


def heads_and_features_exchanged(x: Tensor, n_heads: int) -> Tensor:
    """the last two axes are exchanged; exchange tokens and heads, axes 1 and 2"""
    return right_split(x, n_heads).transpose(1, 2).transpose(2, 3)


def heads_in_front(x: Tensor, n_heads: int) -> Tensor:
    """the heads stand in front of the batch, (n_heads, B, T, d_head); they belong behind it"""
    return torch.stack(x.chunk(n_heads, dim=-1))


def features_before_tokens(x: Tensor, n_heads: int) -> Tensor:
    """in each head tokens and features are exchanged; a row of a head belongs to one token,
    (T, d_head)"""
    return right_split(x, n_heads).mT


def batch_and_tokens_exchanged(x: Tensor, n_heads: int) -> Tensor:
    """axes 0 and 1 are exchanged, batch and tokens; exchange tokens and heads, axes 1 and 2"""
    return right_split(x, n_heads).transpose(1, 2).transpose(0, 1)


def heads_in_reverse(x: Tensor, n_heads: int) -> Tensor:
    """the heads come in reverse order: head 0 gets the first features"""
    return right_split(x, n_heads).flip(1)


def tokens_divided(x: Tensor, n_heads: int) -> Tensor:
    """the tokens are divided among the heads; every head sees all tokens, and some of the
    features"""
    B, T, width = x.shape
    return x.reshape(B, n_heads, T // n_heads, width)


def batch_and_heads_in_one_axis(x: Tensor, n_heads: int) -> Tensor:
    """batch and heads are one axis, (B * n_heads, T, d_head); here they stay two"""
    return right_split(x, n_heads).flatten(0, 1)


def all_features_for_all_heads(x: Tensor, n_heads: int) -> Tensor:
    """every head gets all features; each gets its own slice of width x.size(-1) // n_heads"""
    return x[:, None].expand(-1, n_heads, -1, -1)


def transposed_before_the_cut(x: Tensor, n_heads: int) -> Tensor:
    """tokens and features are exchanged first and the result is regrouped, which mixes the tokens;
    cut the last axis first"""
    B, T, width = x.shape
    return x.transpose(1, 2).reshape(B, n_heads, T, width // n_heads)


def first_slice_only(x: Tensor, n_heads: int) -> Tensor:
    """every head gets the first slice of the features; head h gets slice h"""
    return right_split(x, n_heads)[:, :1].expand(-1, n_heads, -1, -1)


# --- 2.2 merge_heads ---


def merged_without_transpose(x: Tensor) -> Tensor:
    """the heads are still in front of the tokens when the axes are joined, so a row holds several
    tokens of one head; exchange tokens and heads first"""
    B, n_heads, T, d_head = x.shape
    return x.reshape(B, T, n_heads * d_head)


def view_of_a_transpose(x: Tensor) -> Tensor:
    """view refuses a tensor whose axes were exchanged, because its numbers are no longer in order
    in memory; reshape copies where it must"""
    B, n_heads, T, d_head = x.shape
    return x.transpose(1, 2).view(B, T, n_heads * d_head)


def heads_not_joined(x: Tensor) -> Tensor:
    """the axes are exchanged, but heads and features are still two axes; join them"""
    return x.transpose(1, 2)


def features_of_heads_alternate(x: Tensor) -> Tensor:
    """the features of the heads alternate; all features of head 0 come first, then those of
    head 1"""
    return x.permute(0, 2, 3, 1).flatten(2)


def last_axes_exchanged(x: Tensor) -> Tensor:
    """the last two axes are exchanged, tokens and features; exchange heads and tokens, axes 1 and
    2"""
    B, n_heads, T, d_head = x.shape
    return x.transpose(2, 3).reshape(B, T, n_heads * d_head)


def heads_added(x: Tensor) -> Tensor:
    """the heads are added up; they belong side by side, so that none is lost"""
    return x.sum(1)


def heads_averaged(x: Tensor) -> Tensor:
    """the heads are averaged; they belong side by side, so that none is lost"""
    return x.mean(1)


def merged_in_reverse(x: Tensor) -> Tensor:
    """the heads come in reverse order; the features of head 0 come first"""
    return right_merge(x.flip(1))


def tokens_and_heads_joined(x: Tensor) -> Tensor:
    """tokens and heads are joined into one axis; heads and features belong together"""
    return x.transpose(1, 2).flatten(1, 2)


def heads_below_each_other(x: Tensor) -> Tensor:
    """the heads stand below each other, (B, n_heads * T, d_head); they belong side by side"""
    return x.flatten(1, 2)


def tokens_last(x: Tensor) -> Tensor:
    """the result is (B, n_heads * d_head, T); the tokens come before the features"""
    return right_merge(x).mT


def first_head_only(x: Tensor) -> Tensor:
    """only head 0 is returned; put all heads side by side"""
    return x[:, 0]


def all_axes_moved(x: Tensor) -> Tensor:
    """the batch is no longer in front: the result is (T, B, n_heads * d_head)"""
    return right_merge(x).transpose(0, 1)


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


# --- 2.4 MultiHeadAttention ---


class Layer(nn.Module):
    """The right layer in pieces; each wrong answer replaces one."""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, d_model, bias=bias)
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def split(self, x: Tensor) -> Tensor:
        return right_split(x, self.n_heads)

    def merge(self, x: Tensor) -> Tensor:
        return right_merge(x)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, mask)[0]

    def finish(self, merged: Tensor, x: Tensor) -> Tensor:
        return self.out_proj(merged)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = right_attention,
    ) -> Tensor:
        q, k, v = (self.split(part) for part in self.project(x))
        return self.finish(self.merge(self.run(q, k, v, mask, attend)), x)


class OutputNotProjected(Layer):
    """the output projection is not used: the heads' results are returned as they are"""

    def finish(self, merged: Tensor, x: Tensor) -> Tensor:
        return merged


class MaskNotHandedOn(Layer):
    """the mask is not handed on to attend"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, None)[0]


class OwnAttention(Layer):
    """the argument attend is not used: call it in place of scaled_dot_product_attention"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return right_attention(q, k, v, mask)[0]


class KeysFromQueryProjection(Layer):
    """the keys are made with q_proj; they have a projection of their own, k_proj"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.q_proj(x), self.v_proj(x)


class ValuesFromKeyProjection(Layer):
    """the values are made with k_proj; they have a projection of their own, v_proj"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), self.k_proj(x)


class NothingProjected(Layer):
    """x itself is split into heads; project it first, with q_proj, k_proj and v_proj"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x, x


class ValuesNotProjected(Layer):
    """the values are slices of x itself; make them with v_proj"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), x


class KeysAndValuesExchanged(Layer):
    """keys and values are exchanged: attend takes q, k, v in this order"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.v_proj(x), self.k_proj(x)


class QueriesAndKeysExchanged(Layer):
    """queries and keys are exchanged: attend takes q, k, v in this order"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.k_proj(x), self.q_proj(x), self.v_proj(x)


class SplitByView(Layer):
    """the heads are cut out by a view straight to (B, n_heads, T, d_head), which mixes tokens; cut
    the last axis first, as in 2.1"""

    def split(self, x: Tensor) -> Tensor:
        return reshaped_without_transpose(x, self.n_heads)


class SplitAndMergedByView(Layer):
    """heads are cut out and put together by reshape alone, which mixes tokens; exchange tokens and
    heads in both directions, as in 2.1 and 2.2"""

    def split(self, x: Tensor) -> Tensor:
        return reshaped_without_transpose(x, self.n_heads)

    def merge(self, x: Tensor) -> Tensor:
        return merged_without_transpose(x)


class MergedByView(Layer):
    """the heads are put together by a reshape alone, which mixes tokens; exchange tokens and heads
    first, as in 2.2"""

    def merge(self, x: Tensor) -> Tensor:
        return merged_without_transpose(x)


class HeadsAttendToHeads(Layer):
    """tokens and heads are not exchanged before attend, so within a token head attends to head;
    attend needs (B, n_heads, T, d_head)"""

    def split(self, x: Tensor) -> Tensor:
        return right_split(x, self.n_heads).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        return x.flatten(2)


class OneWideHead(Layer):
    """there is one head of full width: nothing is split into heads"""

    def split(self, x: Tensor) -> Tensor:
        return right_split(x, 1)


class WidthTakenForNumber(Layer):
    """number and width of the heads are exchanged: there are n_heads of them"""

    def split(self, x: Tensor) -> Tensor:
        return right_split(x, x.size(-1) // self.n_heads)


class InputAdded(Layer):
    """x is added to the output; such a residual connection belongs to the block around the layer,
    not to the layer"""

    def finish(self, merged: Tensor, x: Tensor) -> Tensor:
        return x + self.out_proj(merged)


class ScaledTwice(Layer):
    """the queries are divided by the square root of d_head, and attend divides the scores again;
    leave it to attend"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q / math.sqrt(q.size(-1)), k, v, mask)[0]


class AlwaysCausal(Layer):
    """a causal mask is used where none was handed in; without a mask every token sees all others"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, causal_mask(q.size(-2)) if mask is None else mask)[0]


class PairReturned(Layer):
    """a pair is returned; only the output is asked for"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = right_attention,
    ) -> Tensor:
        q, k, v = (self.split(part) for part in self.project(x))
        output, weights = attend(q, k, v, mask)
        return self.out_proj(self.merge(output)), weights  # pyright: ignore[reportReturnType]


class PairNotUnpacked(Layer):
    """attend returns a pair, output and weights; take the first part of it"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, mask)  # pyright: ignore[reportReturnType]

    def merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class ProjectedTwice(Layer):
    """the output projection is used twice"""

    def finish(self, merged: Tensor, x: Tensor) -> Tensor:
        return self.out_proj(self.out_proj(merged))


class OutputProjectedBeforeHeads(Layer):
    """the output projection is applied to the values, before the heads attend; it comes last"""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_proj(x), self.k_proj(x), self.out_proj(self.v_proj(x))

    def finish(self, merged: Tensor, x: Tensor) -> Tensor:
        return merged


class NarrowProjections(Layer):
    """the projections are as wide as one head; all heads share one projection of width d_model, and
    each takes a slice of it"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, bias)
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(d_model, d_model // n_heads, bias=bias))


class BiasAlways(Layer):
    """the argument bias is not used: with bias=False there must be none"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, True)


class BiasNever(Layer):
    """there are no biases; hand the argument bias on to nn.Linear"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, False)


class BiasExceptAtTheOutput(Layer):
    """out_proj always has a bias; with bias=False there must be none"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, bias)
        self.out_proj = nn.Linear(d_model, d_model)


class OneProjectionForThree(Layer):
    """one wide projection makes queries, keys and values; here they are three, q_proj, k_proj and
    v_proj"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        nn.Module.__init__(self)
        self.n_heads = n_heads
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)


class NoOutputProjection(Layer):
    """the layer has no output projection, out_proj"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, bias)
        del self.out_proj


class OtherNames(Layer):
    """the projections have other names; they are called q_proj, k_proj, v_proj and out_proj"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        nn.Module.__init__(self)
        self.n_heads = n_heads
        for name in ("W_q", "W_k", "W_v", "W_o"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=bias))


class ProjectionsPerHead(Layer):
    """each head has projections of its own in a list; one projection per role is asked for, of
    which each head takes a slice"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        nn.Module.__init__(self)
        width = d_model // n_heads
        for name in ("q_proj", "k_proj", "v_proj"):
            layers = [nn.Linear(d_model, width, bias=bias) for _ in range(n_heads)]
            setattr(self, name, nn.ModuleList(layers))
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)


class NotInitialised(Layer):
    """super().__init__() is missing; it must be the first line of __init__"""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)


# --- 2.5 split_qkv ---

Three = tuple[Tensor, Tensor, Tensor]


def three(parts: list[Tensor]) -> Three:
    """Three tensors as a tuple."""
    q, k, v = parts
    return q, k, v


def thirds(qkv: Tensor, n_heads: int) -> list[Tensor]:
    """The right answer, used by the wrong ones."""
    return [right_split(part, n_heads) for part in qkv.chunk(3, dim=-1)]


def qkv_as_handed_out(qkv: Tensor, n_heads: int) -> Three:
    """the heads are still cut before queries, keys and values are separated, so head 0 gets queries
    of other heads for its keys; the other order is needed"""
    return three(list(right_split(qkv, n_heads).chunk(3, dim=-1)))


def keys_come_first(qkv: Tensor, n_heads: int) -> Three:
    """queries and keys are exchanged: the queries come first"""
    q, k, v = thirds(qkv, n_heads)
    return k, q, v


def keys_come_last(qkv: Tensor, n_heads: int) -> Three:
    """keys and values are exchanged: the order is queries, keys, values"""
    q, k, v = thirds(qkv, n_heads)
    return q, v, k


def not_split_into_heads(qkv: Tensor, n_heads: int) -> Three:
    """queries, keys and values are separated, but not yet split into heads"""
    return three(list(qkv.chunk(3, dim=-1)))


def every_third_feature(qkv: Tensor, n_heads: int) -> Three:
    """queries, keys and values are taken as every third feature; each is a third of neighbouring
    features"""
    return three([right_split(qkv[..., i::3], n_heads) for i in range(3)])


def thirds_regrouped(qkv: Tensor, n_heads: int) -> Three:
    """the thirds are cut into heads by a reshape alone, which mixes tokens; split them as in 2.1"""
    return three([reshaped_without_transpose(part, n_heads) for part in qkv.chunk(3, dim=-1)])


def heads_behind_tokens(qkv: Tensor, n_heads: int) -> Three:
    """the heads still stand behind the tokens; each part must be (B, n_heads, T, d_head)"""
    return three([part.transpose(1, 2) for part in thirds(qkv, n_heads)])


def tokens_cut_in_three(qkv: Tensor, n_heads: int) -> Three:
    """the tokens are cut in three (dim=1); cut the features, the last axis"""
    return three([right_split(part, n_heads) for part in qkv.chunk(3, dim=1)])


def one_tensor_of_three(qkv: Tensor, n_heads: int) -> Tensor:
    """one tensor is returned; return three, q, k and v"""
    return torch.stack(thirds(qkv, n_heads))


def first_third_three_times(qkv: Tensor, n_heads: int) -> Three:
    """all three are the first third; keys and values are the second and the last"""
    return three([thirds(qkv, n_heads)[0]] * 3)


def cut_by_heads(qkv: Tensor, n_heads: int) -> tuple[Tensor, ...]:
    """the features are cut into n_heads pieces; cut them in three first"""
    return tuple(right_split(part, 3) for part in qkv.chunk(n_heads, dim=-1))


def width_before_heads(qkv: Tensor, n_heads: int) -> Three:
    """each third is dealt out to the heads feature by feature; a head's features are neighbours"""
    return three([features_dealt_out(part, n_heads) for part in qkv.chunk(3, dim=-1)])


# --- 2.6 cross_attend ---


def crossed(
    layer: nn.Module,
    sources: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    names: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
    n_heads: int | None = None,
) -> Tensor:
    """Merged heads, not yet projected; used by the wrong answers."""
    heads = n_heads or layer.n_heads  # pyright: ignore[reportArgumentType]
    parts = [
        right_split(layer.get_submodule(name)(x), heads)  # pyright: ignore[reportArgumentType]
        for name, x in zip(names, sources, strict=True)
    ]
    q, k, v = parts
    return right_merge(plain_attention(q, k, v, mask)[0])


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention without the reference's checks: it raises the errors of a learner's code."""
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, -1).nan_to_num()
    return weights @ v, weights


def output_of(layer: nn.Module, merged: Tensor) -> Tensor:
    return layer.get_submodule("out_proj")(merged)


def context_not_used(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """context is not used: keys and values come from x, and should come from context"""
    return output_of(layer, crossed(layer, (x, x, x), mask))


def sides_exchanged(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the sides are exchanged: queries come from x, keys and values from context"""
    return output_of(layer, crossed(layer, (context, x, x), mask))


def everything_from_context(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the queries come from context as well; they come from x"""
    return output_of(layer, crossed(layer, (context, context, context), mask))


def only_values_from_context(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the keys come from x; like the values they come from context"""
    return output_of(layer, crossed(layer, (x, x, context), mask))


def only_keys_from_context(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the values come from x; like the keys they come from context"""
    return output_of(layer, crossed(layer, (x, context, x), mask))


def cross_mask_forgotten(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the mask is not used"""
    return output_of(layer, crossed(layer, (x, context, context), None))


def cross_output_not_projected(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the output projection is missing at the end: layer.out_proj"""
    return crossed(layer, (x, context, context), mask)


def cross_keys_by_q_proj(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the keys are made with q_proj; use k_proj"""
    names = ("q_proj", "q_proj", "v_proj")
    return output_of(layer, crossed(layer, (x, context, context), mask, names))


def cross_values_by_k_proj(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the values are made with k_proj; use v_proj"""
    names = ("q_proj", "k_proj", "k_proj")
    return output_of(layer, crossed(layer, (x, context, context), mask, names))


def cross_keys_and_values_exchanged(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """keys and values are exchanged"""
    names = ("q_proj", "v_proj", "k_proj")
    return output_of(layer, crossed(layer, (x, context, context), mask, names))


def cross_without_heads(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """there is one wide head: split queries, keys and values into layer.n_heads heads"""
    return output_of(layer, crossed(layer, (x, context, context), mask, n_heads=1))


def cross_input_added(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """x is added to the output; a residual connection does not belong to the layer"""
    return x + output_of(layer, crossed(layer, (x, context, context), mask))


def x_joins_the_keys(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """x is put before the context, so its tokens are keys as well; the keys are those of context
    alone"""
    both = torch.cat([x, context], dim=1)
    return output_of(layer, crossed(layer, (x, both, both), None))


def layer_of_the_context(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the layer is called with context, which is self-attention of the context; x must ask"""
    return layer(context, mask)


def cross_pair_returned(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """a pair is returned; only the output is asked for"""
    q, k, v = (
        right_split(layer.get_submodule(name)(source), layer.n_heads)  # pyright: ignore
        for name, source in (("q_proj", x), ("k_proj", context), ("v_proj", context))
    )
    output, weights = plain_attention(q, k, v, mask)
    return output_of(layer, right_merge(output)), weights


def crossed_by_hand(
    layer: nn.Module,
    x: Tensor,
    context: Tensor,
    mask: Tensor | None,
    *,
    factor: float = 1.0,
    dim: int = -1,
    regrouped: tuple[bool, bool] = (False, False),
) -> Tensor:
    """Cross-attention with one thing changed; `regrouped` is for splitting and for merging."""
    n_heads = int(layer.n_heads)  # pyright: ignore[reportArgumentType]
    split = reshaped_without_transpose if regrouped[0] else right_split
    q, k, v = (
        split(layer.get_submodule(name)(source), n_heads)
        for name, source in (("q_proj", x), ("k_proj", context), ("v_proj", context))
    )
    scores = factor * (q @ k.mT) / math.sqrt(q.size(-1))
    scores = scores if mask is None else apply_mask(scores, mask)
    output = torch.softmax(scores, dim) @ v
    merge = merged_without_transpose if regrouped[1] else right_merge
    return output_of(layer, merge(output))


def cross_not_scaled(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the division of the scores by the square root of d_head is missing"""
    root = math.sqrt(x.size(-1) / layer.n_heads)  # pyright: ignore
    return crossed_by_hand(layer, x, context, mask, factor=root)


def cross_scaled_by_d_model(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the scores are divided by the square root of d_model; a head is d_head wide"""
    root = math.sqrt(layer.n_heads)  # pyright: ignore
    return crossed_by_hand(layer, x, context, mask, factor=1 / root)


def cross_softmax_over_queries(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the softmax runs over the queries; it belongs over the keys, the last axis"""
    return crossed_by_hand(layer, x, context, mask, dim=-2)


def cross_split_by_view(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the heads are cut out by a reshape alone, which mixes tokens; split them as in 2.1"""
    return crossed_by_hand(layer, x, context, mask, regrouped=(True, False))


def cross_merged_by_view(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2"""
    return crossed_by_hand(layer, x, context, mask, regrouped=(False, True))


def cross_split_and_merged_by_view(
    layer: nn.Module, x: Tensor, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """heads are cut out and put together by reshape alone, which mixes tokens; exchange tokens and
    heads in both directions, as in 2.1 and 2.2"""
    return crossed_by_hand(layer, x, context, mask, regrouped=(True, True))


# --- 2.7 head_contributions ---


def through(heads: Tensor, slices: Tensor) -> Tensor:
    """Each head through a matrix (n_heads, d_head, d_model) of its own."""
    return heads @ slices


def slices_of(heads: Tensor, w_o: Tensor) -> Tensor:
    """The right matrices, (n_heads, d_head, d_model)."""
    return w_o.unflatten(1, (heads.size(1), heads.size(3))).permute(1, 2, 0)


def rows_of_w_o(heads: Tensor, w_o: Tensor) -> Tensor:
    """w_o is cut into rows; nn.Linear stores it transposed, so the heads meet its columns"""
    n_heads, d_head = heads.size(1), heads.size(3)
    rows = [w_o[h * d_head : (h + 1) * d_head] for h in range(n_heads)]
    return torch.stack([heads[:, h] @ rows[h] for h in range(n_heads)], dim=1)


def w_o_regrouped(heads: Tensor, w_o: Tensor) -> Tensor:
    """w_o is regrouped by a view with the heads in front, which keeps the order in memory; cut its
    last axis, then move the heads to the front"""
    return through(heads, w_o.reshape(heads.size(1), -1, heads.size(3)).mT)


def w_o_viewed_as_transposed(heads: Tensor, w_o: Tensor) -> Tensor:
    """w_o is viewed as (n_heads, d_head, d_model), which keeps the order in memory and is no
    transpose; cut its last axis, then move axes"""
    return through(heads, w_o.reshape(heads.size(1), heads.size(3), -1))


def columns_dealt_out(heads: Tensor, w_o: Tensor) -> Tensor:
    """each head gets every n_heads-th column of w_o; it gets d_head neighbouring ones"""
    return through(heads, w_o.unflatten(1, (heads.size(3), heads.size(1))).permute(2, 1, 0))


def contributions_averaged(heads: Tensor, w_o: Tensor) -> Tensor:
    """the contributions are divided by the number of heads; the output is their sum, not their
    mean"""
    return through(heads, slices_of(heads, w_o)) / heads.size(1)


def contributions_summed(heads: Tensor, w_o: Tensor) -> Tensor:
    """the contributions are added up already; one per head is asked for"""
    return through(heads, slices_of(heads, w_o)).sum(1)


def contributions_after_tokens(heads: Tensor, w_o: Tensor) -> Tensor:
    """the heads stand behind the tokens, (B, T, n_heads, d_model); they belong before them"""
    return through(heads, slices_of(heads, w_o)).transpose(1, 2)


def first_columns_for_all(heads: Tensor, w_o: Tensor) -> Tensor:
    """all heads meet the first columns of w_o; head h meets those from h * d_head on"""
    return through(heads, slices_of(heads, w_o)[:1])


def columns_in_reverse(heads: Tensor, w_o: Tensor) -> Tensor:
    """the slices of w_o come in reverse order: head 0 meets the first columns"""
    return through(heads, slices_of(heads, w_o).flip(0))


def output_without_the_head(heads: Tensor, w_o: Tensor) -> Tensor:
    """this is the output without each head, all others together; what the head itself writes is
    asked for"""
    alone = through(heads, slices_of(heads, w_o))
    return alone.sum(1, keepdim=True) - alone


def output_so_far(heads: Tensor, w_o: Tensor) -> Tensor:
    """the contributions are added up from head to head; each is asked for by itself"""
    return through(heads, slices_of(heads, w_o)).cumsum(1)


def output_for_every_head(heads: Tensor, w_o: Tensor) -> Tensor:
    """every head gets the whole output; let all other heads be zero"""
    whole = through(heads, slices_of(heads, w_o)).sum(1, keepdim=True)
    return whole.expand(-1, heads.size(1), -1, -1)


def merged_by_reshape(heads: Tensor, w_o: Tensor) -> Tensor:
    """the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2"""
    B, n_heads, T, d_head = heads.shape
    regrouped = right_split(heads.reshape(B, T, n_heads * d_head), n_heads)
    return through(regrouped, slices_of(heads, w_o))


def contributions_side_by_side(heads: Tensor, w_o: Tensor) -> Tensor:
    """the contributions stand side by side in one long row; the heads need an axis of their own"""
    return right_merge(through(heads, slices_of(heads, w_o)))


# --- 2.8 layer_cost ---

Cost = tuple[float, float]


def parameters_of(d_model: int, bias: bool) -> int:
    return 4 * d_model**2 + 4 * d_model * bias


def work_of(d_model: int, T: int) -> int:
    return 4 * T * d_model**2 + 2 * T**2 * d_model


def projections_times_heads(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """everything is multiplied by n_heads; the heads share the d_model features, so more heads are
    narrower and cost the same"""
    return n_heads * parameters_of(d_model, bias), n_heads * work_of(d_model, T)


def parameters_times_heads(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the parameters are multiplied by n_heads; all heads share four projections of d_model times
    d_model"""
    return n_heads * parameters_of(d_model, bias), work_of(d_model, T)


def projections_of_one_head(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the projections are counted as d_model times d_head, one head of each; count all heads"""
    return 4 * d_model**2 // n_heads + 4 * (d_model // n_heads) * bias, work_of(d_model, T)


def biases_forgotten(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the biases are missing: each of the four projections has d_model of them if bias is True"""
    return parameters_of(d_model, False), work_of(d_model, T)


def biases_always(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """biases are counted even if bias is False"""
    return parameters_of(d_model, True), work_of(d_model, T)


def one_bias_per_projection(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """a projection is given a single bias; it has one for each of its d_model outputs"""
    return 4 * d_model**2 + 4 * bias, work_of(d_model, T)


def one_projection_biased(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the biases of one projection are counted; four projections have them"""
    return 4 * d_model**2 + d_model * bias, work_of(d_model, T)


def three_projections(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """three projections are counted; the output projection is the fourth"""
    work = 3 * T * d_model**2 + 2 * T**2 * d_model
    return 3 * d_model**2 + 3 * d_model * bias, work


def products_times_heads(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the products of one head are counted with width d_model and taken n_heads times; a head is
    only d_model / n_heads wide"""
    return parameters_of(d_model, bias), 4 * T * d_model**2 + 2 * T**2 * d_model * n_heads


def products_of_one_head(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the products of a single head are counted; there are n_heads"""
    return parameters_of(d_model, bias), 4 * T * d_model**2 + 2 * T**2 * (d_model // n_heads)


def one_product_in_each_head(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """one of the two products in the heads is missing: queries times keys, and weights times
    values"""
    return parameters_of(d_model, bias), 4 * T * d_model**2 + T**2 * d_model


def products_forgotten(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """only the projections are counted; the two products inside the heads are missing"""
    return parameters_of(d_model, bias), 4 * T * d_model**2


def projections_forgotten(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """only the products inside the heads are counted; the four projections are missing"""
    return parameters_of(d_model, bias), 2 * T**2 * d_model


def projected_once(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the projections are counted for one token; each of the T tokens is projected"""
    return parameters_of(d_model, bias), 4 * d_model**2 + 2 * T**2 * d_model


def tokens_counted_once(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """T is counted once in the products; every token meets every other, which makes T * T"""
    return parameters_of(d_model, bias), 4 * T * d_model**2 + 2 * T * d_model


def counted_twice(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """multiplications and additions are counted separately; a pair of them is one multiply-add"""
    return parameters_of(d_model, bias), 2 * work_of(d_model, T)


def additions_of_biases(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the additions of the biases are counted as multiply-adds; leave them out"""
    return parameters_of(d_model, bias), work_of(d_model, T) + 4 * T * d_model * bias


def cost_in_reverse(d_model: int, n_heads: int, T: int, bias: bool = True) -> Cost:
    """the two results are exchanged: the parameters come first"""
    return work_of(d_model, T), parameters_of(d_model, bias)


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


def stripe(weights: Tensor, period: int, shift: int = 0) -> Tensor:
    """(B, n_heads, T - period): the weights on the right stripe, or on one beside it."""
    i = torch.arange(period, weights.size(-1))
    return weights[:, :, i, (i - period + 1 + shift).clamp(0, weights.size(-1) - 1)]


def score_of_the_same_token(weights: Tensor, period: int) -> Tensor:
    """this looks at the earlier place itself, i - period; an induction head looks at the token
    after it"""
    return stripe(weights, period, -1).mean((0, 2))


def score_two_after(weights: Tensor, period: int) -> Tensor:
    """this looks two places after the earlier one; the next is i - period + 1"""
    return stripe(weights, period, 1).mean((0, 2))


def score_of_the_previous_token(weights: Tensor, period: int) -> Tensor:
    """this is the weight on the token before, i - 1; the earlier copy lies `period` back"""
    i = torch.arange(period, weights.size(-1))
    return weights[:, :, i, i - 1].mean((0, 2))


def divided_by_all_positions(weights: Tensor, period: int) -> Tensor:
    """the sum is divided by all T positions; only those from `period` on are looked at"""
    return stripe(weights, period).sum(2).mean(0) / weights.size(-1)


def one_position_too_many(weights: Tensor, period: int) -> Tensor:
    """the stripe begins at position period - 1, where nothing has been repeated yet; begin at
    position `period`"""
    return weights.diagonal(1 - period, -2, -1).mean((0, 2))


def one_position_too_few(weights: Tensor, period: int) -> Tensor:
    """the first position of the second copy, position `period`, is left out"""
    return stripe(weights, period)[..., 1:].mean((0, 2))


def last_position_left_out(weights: Tensor, period: int) -> Tensor:
    """the last position is left out; it has an earlier copy as well"""
    return stripe(weights, period)[..., :-1].mean((0, 2))


def score_per_text(weights: Tensor, period: int) -> Tensor:
    """there is a score per text and head, (B, n_heads); take the mean over the batch as well"""
    return stripe(weights, period).mean(2)


def score_of_all_heads(weights: Tensor, period: int) -> Tensor:
    """there is a single number for all heads; each head has a score of its own"""
    return stripe(weights, period).mean()


def mean_over_the_heads(weights: Tensor, period: int) -> Tensor:
    """the mean runs over heads and positions and leaves the batch; it should leave the heads"""
    return stripe(weights, period).mean((1, 2))


def summed_not_averaged(weights: Tensor, period: int) -> Tensor:
    """the weights are added up over the positions; take their mean"""
    return stripe(weights, period).sum(2).mean(0)


def everything_summed(weights: Tensor, period: int) -> Tensor:
    """the weights are added up over texts and positions; take their mean"""
    return stripe(weights, period).sum((0, 2))


def divided_by_the_period(weights: Tensor, period: int) -> Tensor:
    """the sum is divided by the period; divide by the number of positions that are looked at"""
    return stripe(weights, period).sum(2).mean(0) / period


def keys_taken_for_queries(weights: Tensor, period: int) -> Tensor:
    """rows and columns are exchanged: the query i is the row, the key i - period + 1 the column"""
    return stripe(weights.mT, period).mean((0, 2))


def last_copy_only(weights: Tensor, period: int) -> Tensor:
    """only the last `period` positions are looked at; every position from `period` on counts"""
    return stripe(weights, period)[..., -period:].mean((0, 2))


def largest_weight(weights: Tensor, period: int) -> Tensor:
    """the largest weight of the stripe is taken; take the mean"""
    return stripe(weights, period).amax((0, 2))


def all_pairs(weights: Tensor, period: int) -> Tensor:
    """rows and columns are picked one after the other, which gives every pair of them; only the
    pairs (i, i - period + 1) count"""
    i = torch.arange(period, weights.size(-1))
    return weights[:, :, i][..., i - period + 1].mean((0, 2, 3))


def position_zero_too(weights: Tensor, period: int) -> Tensor:
    """all positions from 0 on are looked at, and negative keys count from the end; begin at
    position `period`"""
    i = torch.arange(weights.size(-1))
    return weights[:, :, i, i - period + 1].mean((0, 2))


# --- 2.11 repeat_kv ---


def copies_alternate(x: Tensor, n_repeats: int) -> Tensor:
    """the copies alternate, 0 1 0 1; the copies of a head must be neighbours, 0 0 1 1"""
    return x.repeat(1, n_repeats, 1, 1)


def tokens_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """the tokens are repeated; repeat the heads, axis 1"""
    return x.repeat_interleave(n_repeats, 2)


def text_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """the text of each head is repeated behind itself, axis 2; repeat the heads, axis 1"""
    return x.repeat(1, 1, n_repeats, 1)


def batch_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """the batch is repeated; repeat the heads, axis 1"""
    return x.repeat(n_repeats, 1, 1, 1)


def batch_repeated_in_place(x: Tensor, n_repeats: int) -> Tensor:
    """the texts of the batch are repeated; repeat the heads, axis 1"""
    return x.repeat_interleave(n_repeats, 0)


def features_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """the features are repeated; repeat the heads, axis 1"""
    return x.repeat(1, 1, 1, n_repeats)


def copies_not_joined(x: Tensor, n_repeats: int) -> Tensor:
    """heads and copies are still two axes; join them into one of n_kv_heads * n_repeats"""
    return x[:, :, None].expand(-1, -1, n_repeats, -1, -1)


def copies_behind_tokens(x: Tensor, n_repeats: int) -> Tensor:
    """the new axis stands behind the tokens, so the copies of a token become neighbours and mix
    with other tokens in the reshape; it belongs right behind the heads"""
    B, n_kv_heads, T, d_head = x.shape
    copies = x[:, :, :, None].expand(-1, -1, -1, n_repeats, -1)
    return copies.reshape(B, n_kv_heads * n_repeats, T, d_head)


def first_head_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """all copies are of head 0; every head is repeated"""
    return x[:, :1].expand(-1, x.size(1) * n_repeats, -1, -1)


def one_copy_too_many(x: Tensor, n_repeats: int) -> Tensor:
    """there is one copy too many: n_repeats counts the head itself"""
    return x.repeat_interleave(n_repeats + 1, 1)


def n_repeats_heads(x: Tensor, n_repeats: int) -> Tensor:
    """there are n_repeats heads in all; each of the n_kv_heads heads is repeated that often"""
    return x[:, :1].expand(-1, n_repeats, -1, -1)


def nothing_repeated(x: Tensor, n_repeats: int) -> Tensor:
    """nothing is repeated: x comes back as it was"""
    return x.clone()


def copies_divided(x: Tensor, n_repeats: int) -> Tensor:
    """the copies are divided by n_repeats; each query head needs the head as it is"""
    return x.repeat_interleave(n_repeats, 1) / n_repeats


def copies_of_zeros(x: Tensor, n_repeats: int) -> Tensor:
    """the copies are zeros: only the first of each group holds the head"""
    repeated = x.repeat_interleave(n_repeats, 1)
    first = torch.arange(repeated.size(1)) % n_repeats == 0
    return repeated * first[:, None, None]


# --- 2.12 kv_cache_bytes ---


def bytes_of(*factors: float) -> float:
    return math.prod(factors)


def keys_only(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """only one of the two is counted; there are keys and values"""
    return bytes_of(B, T, n_layers, n_kv_heads, d_head, n)


def numbers_counted(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2
) -> float:
    """numbers are counted; multiply them by bytes_per_number"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head)


def one_layer(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """n_layers is missing: each layer has keys and values of its own"""
    return bytes_of(2, B, T, n_kv_heads, d_head, n)


def one_text(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """B is missing: each text has keys and values of its own"""
    return bytes_of(2, T, n_layers, n_kv_heads, d_head, n)


def one_kv_head(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """n_kv_heads is missing: each key-value head has keys and values of its own"""
    return bytes_of(2, B, T, n_layers, d_head, n)


def one_token(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """T is missing: all tokens so far are kept"""
    return bytes_of(2, B, n_layers, n_kv_heads, d_head, n)


def width_forgotten(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2
) -> float:
    """d_head is missing: a key is a vector of d_head numbers, and so is a value"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, n)


def pairs_of_tokens(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2
) -> float:
    """T is counted twice; the cache holds one key and one value per token, and no scores"""
    return bytes_of(2, B, T, T, n_layers, n_kv_heads, d_head, n)


def always_two_bytes(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2
) -> float:
    """two bytes per number are taken, whatever bytes_per_number says"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head, 2)


def queries_kept_too(
    B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2
) -> float:
    """the queries are counted too; an old query is never needed again, so it is not kept"""
    return bytes_of(3, B, T, n_layers, n_kv_heads, d_head, n)


def bits_counted(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """bits are counted; a byte has eight of them"""
    return bytes_of(16, B, T, n_layers, n_kv_heads, d_head, n)


def kibibytes(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """the result is in a larger unit; bytes are asked for, without a division"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head, n) / 2**10


def mebibytes(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """the result is in a larger unit; bytes are asked for, without a division"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head, n) / 2**20


def gibibytes(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """the result is in a larger unit; bytes are asked for, without a division"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head, n) / 2**30


def megabytes(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """the result is in a larger unit; bytes are asked for, without a division"""
    return bytes_of(2, B, T, n_layers, n_kv_heads, d_head, n) / 1e6


def factors_added(B: int, T: int, n_layers: int, n_kv_heads: int, d_head: int, n: int = 2) -> float:
    """sizes are added where they should be multiplied: n_kv_heads heads of width d_head are
    n_kv_heads * d_head numbers"""
    return bytes_of(2, B, T, n_layers, n_kv_heads + d_head, n)


# --- 2.13 GroupedQueryAttention ---


class Grouped(nn.Module):
    """The right layer in pieces; each wrong answer replaces one."""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads
        kv_width = self.kv_width(d_model, n_heads, n_kv_heads)
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.v_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

    def kv_width(self, d_model: int, n_heads: int, n_kv_heads: int) -> int:
        return n_kv_heads * (d_model // n_heads)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = right_split(self.q_proj(x), self.n_heads)
        k = right_split(self.k_proj(x), self.n_kv_heads)
        return q, k, right_split(self.v_proj(x), self.n_kv_heads)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, mask)[0]

    def finish(self, output: Tensor, x: Tensor) -> Tensor:
        return self.out_proj(right_merge(output))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = right_grouped,
    ) -> Tensor:
        q, k, v = self.heads(x)
        return self.finish(self.run(q, k, v, mask, attend), x)


class FullWidthForAll(Grouped):
    """k_proj and v_proj are as wide as q_proj; they make n_kv_heads heads only"""

    def kv_width(self, d_model: int, n_heads: int, n_kv_heads: int) -> int:
        return d_model


class WidthOfOneHead(Grouped):
    """k_proj and v_proj make a single head; they make n_kv_heads heads"""

    def kv_width(self, d_model: int, n_heads: int, n_kv_heads: int) -> int:
        return d_model // n_heads


class WidthDividedByKvHeads(Grouped):
    """k_proj and v_proj are d_model / n_kv_heads wide; they make n_kv_heads heads of the width of a
    query head, d_model / n_heads"""

    def kv_width(self, d_model: int, n_heads: int, n_kv_heads: int) -> int:
        return d_model // n_kv_heads


class NumberOfHeadsForWidth(Grouped):
    """k_proj and v_proj are n_kv_heads wide; each of these heads has d_head features"""

    def kv_width(self, d_model: int, n_heads: int, n_kv_heads: int) -> int:
        return n_kv_heads


class GroupedBiasAlways(Grouped):
    """the argument bias is not used: with bias=False there must be none"""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, n_kv_heads, True)


class QueriesNarrowToo(Grouped):
    """q_proj is as narrow as k_proj; the queries keep all n_heads heads"""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, n_kv_heads, bias)
        self.q_proj = nn.Linear(d_model, self.kv_width(d_model, n_heads, n_kv_heads), bias=bias)


class OnlyKeysNarrow(Grouped):
    """v_proj is as wide as q_proj; the values have n_kv_heads heads, like the keys"""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, n_heads, n_kv_heads, bias)
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)


class RepeatedBeforeAttend(Grouped):
    """keys and values are repeated before attend is called; attend repeats them itself, so that a
    cache can store the few"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        n_repeats = q.size(1) // k.size(1)
        return attend(q, right_repeat(k, n_repeats), right_repeat(v, n_repeats), mask)[0]


class RepeatedAlternating(Grouped):
    """keys and values are repeated before attend is called, and in the order 0 1 0 1; leave it to
    attend"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        n_repeats = q.size(1) // k.size(1)
        return attend(q, k.repeat(1, n_repeats, 1, 1), v.repeat(1, n_repeats, 1, 1), mask)[0]


class GroupedMaskForgotten(Grouped):
    """the mask is not handed on to attend"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return attend(q, k, v, None)[0]


class GroupedOwnAttention(Grouped):
    """the argument attend is not used: call it in place of grouped_attention"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return right_grouped(q, k, v, mask)[0]


class KeysSplitLikeQueries(Grouped):
    """keys and values are split into n_heads heads, which are then narrower than those of the
    queries; there are n_kv_heads"""

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (right_split(part, self.n_heads) for part in parts)
        return q, k, v


class PlainAttentionCalled(Grouped):
    """scaled_dot_product_attention is called, which needs as many key heads as query heads; call
    attend, which repeats them"""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attend: AttentionFunction
    ) -> Tensor:
        return right_attention(q, k, v, mask)[0]


class GroupedOutputNotProjected(Grouped):
    """the output projection is not used"""

    def finish(self, output: Tensor, x: Tensor) -> Tensor:
        return right_merge(output)


class GroupedMergedByView(Grouped):
    """the heads are put together by a reshape alone, which mixes tokens; merge them as in 2.2"""

    def finish(self, output: Tensor, x: Tensor) -> Tensor:
        return self.out_proj(merged_without_transpose(output))


class ValuesByKeyProjection(Grouped):
    """the values are made with k_proj; they have a projection of their own, v_proj"""

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, _ = super().heads(x)
        return q, k, k


class GroupedKeysAndValuesExchanged(Grouped):
    """keys and values are exchanged: attend takes q, k, v in this order"""

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().heads(x)
        return q, v, k


class KvHeadsAveraged(Grouped):
    """the key-value heads are averaged into one; each serves its own group of query heads"""

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().heads(x)
        return q, k.mean(1, keepdim=True), v.mean(1, keepdim=True)


class GroupedNotInitialised(Grouped):
    """super().__init__() is missing; it must be the first line of __init__"""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)


# --- 2.14 block_sparse_attention ---


def blocks_of(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int
) -> list[list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """For each block of queries, the blocks it needs: queries, keys, values, mask."""
    rows = zip(q.split(block_size, -2), mask.split(block_size), strict=True)
    columns = torch.arange(k.size(-2)).split(block_size)
    return [
        [
            (queries, k[..., one, :], v[..., one, :], allowed[:, one])
            for one in columns
            if allowed[:, one].any()
        ]
        for queries, allowed in rows
    ]


def zeros_for(q: Tensor, v: Tensor, start: int, block_size: int) -> Tensor:
    rows = q[..., start : start + block_size, :]
    return q.new_zeros((*rows.shape[:-1], v.size(-1)))


def blocks_taken_whole(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """within the allowed blocks the mask is not applied: a block is computed if it allows
    something, and may still forbid a part"""
    outputs = []
    for at, row in enumerate(blocks_of(q, k, v, mask, block_size)):
        if not row:
            outputs.append(zeros_for(q, v, at * block_size, block_size))
            continue
        keys, values = (torch.cat([one[i] for one in row], dim=-2) for i in (1, 2))
        outputs.append(plain_attention(row[0][0], keys, values)[0])
    return torch.cat(outputs, dim=-2)


def everything_computed(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """all scores are computed and masked afterwards, so forbidden blocks are read; take the keys
    and values of the allowed blocks only"""
    return right_attention(q, k, v, mask)[0]


def nan_within_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """a query that may attend to nothing gets nan, because the softmax of a row of -inf is 0 / 0;
    lesson 01's attention gives zeros"""
    outputs = []
    for at, row in enumerate(blocks_of(q, k, v, mask, block_size)):
        if not row:
            outputs.append(zeros_for(q, v, at * block_size, block_size))
            continue
        queries, keys, values, allowed = (
            row[0][0],
            torch.cat([one[1] for one in row], dim=-2),
            torch.cat([one[2] for one in row], dim=-2),
            torch.cat([one[3] for one in row], dim=-1),
        )
        scores = apply_mask(queries @ keys.mT / math.sqrt(q.size(-1)), allowed)
        outputs.append(torch.softmax(scores, -1) @ values)
    return torch.cat(outputs, dim=-2)


def combined(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int, mean: bool) -> Tensor:
    """Each block by itself, then added up or averaged."""
    outputs = []
    for at, row in enumerate(blocks_of(q, k, v, mask, block_size)):
        parts = [plain_attention(*one)[0] for one in row]
        parts = parts or [zeros_for(q, v, at * block_size, block_size)]
        total = torch.stack(parts).sum(0)
        outputs.append(total / len(parts) if mean else total)
    return torch.cat(outputs, dim=-2)


def softmax_in_each_block(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """each block of keys has a softmax of its own, and the results are added up; the keys of a
    query share one softmax"""
    return combined(q, k, v, mask, block_size, mean=False)


def mean_of_the_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """each block of keys has a softmax of its own, and the results are averaged; the keys of a
    query share one softmax"""
    return combined(q, k, v, mask, block_size, mean=True)


def last_keys_dropped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """the keys after the last full block are left out; the last block may be smaller"""
    whole = k.size(-2) // block_size * block_size
    if whole == 0:
        return q.new_zeros((*q.shape[:-1], v.size(-1)))
    used = mask[:, :whole]
    return plain_attention(q, k[..., :whole, :].nan_to_num(), v[..., :whole, :].nan_to_num(), used)[
        0
    ]


def last_queries_dropped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """the queries after the last full block are left out; the last block may be smaller"""
    whole = q.size(-2) // block_size * block_size
    return plain_attention(q[..., :whole, :], k.nan_to_num(), v.nan_to_num(), mask[:whole])[0]


def diagonal_blocks_only(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """each block of queries looks at its own block of keys only; the mask says which blocks it
    needs"""
    i, j = torch.arange(q.size(-2))[:, None], torch.arange(k.size(-2))
    own = i // block_size == j // block_size
    return plain_attention(q, k.nan_to_num(), v.nan_to_num(), mask & own)[0]


def first_block_only(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    """each block of queries uses the first of its allowed blocks only; it may need several"""
    return some_blocks(q, k, v, mask, block_size, slice(0, 1))


def last_block_only(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    """each block of queries uses the last of its allowed blocks only; is something overwritten in
    the loop?"""
    return some_blocks(q, k, v, mask, block_size, slice(-1, None))


def some_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int, kept: slice
) -> Tensor:
    """Some of the allowed blocks of each block of queries, used by the wrong answers."""
    outputs = []
    for at, row in enumerate(blocks_of(q, k, v, mask, block_size)):
        if not row:
            outputs.append(zeros_for(q, v, at * block_size, block_size))
        for one in row[kept]:
            outputs.append(plain_attention(*one)[0])
    return torch.cat(outputs, dim=-2)


def only_full_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    """a block is used only if everything in it is allowed; one allowed pair is enough: any, not
    all"""
    full = torch.zeros_like(mask)
    for rows in torch.arange(q.size(-2)).split(block_size):
        for columns in torch.arange(k.size(-2)).split(block_size):
            block = mask[rows][:, columns]
            full[rows[:, None], columns] = block.all()
    return plain_attention(q, k.nan_to_num(), v.nan_to_num(), full)[0]


def large_negative_number(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """masked scores are a large negative number: a query that may attend to nothing then attends to
    all keys equally; with -inf it gets zeros"""
    scores = (q @ k.nan_to_num().mT / math.sqrt(q.size(-1))).masked_fill(~mask, -1e9)
    return torch.softmax(scores, -1) @ v.nan_to_num()


def sparse_not_scaled(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """the division of the scores by the square root of d_k is missing"""
    root = math.sqrt(q.size(-1))
    return plain_attention(q * root, k.nan_to_num(), v.nan_to_num(), mask)[0]


def mask_turned_around(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """the mask is used the wrong way round: True means that a query may attend to the key"""
    return plain_attention(q, k.nan_to_num(), v.nan_to_num(), ~mask)[0]


def blocks_of_the_first_queries(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """every block of queries uses the rows of the mask that belong to the first block; cut the mask
    along with the queries"""
    repeats = math.ceil(q.size(-2) / block_size)
    rows = mask[:block_size].repeat(repeats, 1)[: q.size(-2)]
    return plain_attention(q, k.nan_to_num(), v.nan_to_num(), rows)[0]


def wrong_columns_of_the_mask(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """the mask is cut to its first columns, and not to those of the keys that were picked"""
    outputs = []
    for at, row in enumerate(blocks_of(q, k, v, mask, block_size)):
        if not row:
            outputs.append(zeros_for(q, v, at * block_size, block_size))
            continue
        keys, values = (torch.cat([one[i] for one in row], dim=-2) for i in (1, 2))
        rows = mask[at * block_size : (at + 1) * block_size, : keys.size(-2)]
        outputs.append(plain_attention(row[0][0], keys, values, rows)[0])
    return torch.cat(outputs, dim=-2)


MISCONCEPTIONS = {
    "split_heads": (
        viewed_without_transpose,
        reshaped_without_transpose,
        heads_after_tokens,
        features_dealt_out,
        as_many_heads_as_features,
        heads_and_features_exchanged,
        heads_in_front,
        features_before_tokens,
        batch_and_tokens_exchanged,
        heads_in_reverse,
        tokens_divided,
        batch_and_heads_in_one_axis,
        all_features_for_all_heads,
        transposed_before_the_cut,
        first_slice_only,
    ),
    "merge_heads": (
        merged_without_transpose,
        view_of_a_transpose,
        heads_not_joined,
        features_of_heads_alternate,
        last_axes_exchanged,
        heads_added,
        heads_averaged,
        merged_in_reverse,
        tokens_and_heads_joined,
        heads_below_each_other,
        tokens_last,
        first_head_only,
        all_axes_moved,
    ),
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
    ),
    "MultiHeadAttention": (
        OutputNotProjected,
        MaskNotHandedOn,
        OwnAttention,
        KeysFromQueryProjection,
        ValuesFromKeyProjection,
        NothingProjected,
        ValuesNotProjected,
        KeysAndValuesExchanged,
        QueriesAndKeysExchanged,
        SplitByView,
        SplitAndMergedByView,
        MergedByView,
        HeadsAttendToHeads,
        OneWideHead,
        WidthTakenForNumber,
        InputAdded,
        ScaledTwice,
        AlwaysCausal,
        PairReturned,
        PairNotUnpacked,
        ProjectedTwice,
        OutputProjectedBeforeHeads,
        NarrowProjections,
        BiasAlways,
        BiasNever,
        BiasExceptAtTheOutput,
        OneProjectionForThree,
        NoOutputProjection,
        OtherNames,
        ProjectionsPerHead,
        NotInitialised,
    ),
    "split_qkv": (
        qkv_as_handed_out,
        keys_come_first,
        keys_come_last,
        not_split_into_heads,
        every_third_feature,
        thirds_regrouped,
        heads_behind_tokens,
        tokens_cut_in_three,
        one_tensor_of_three,
        first_third_three_times,
        cut_by_heads,
        width_before_heads,
    ),
    "cross_attend": (
        context_not_used,
        sides_exchanged,
        everything_from_context,
        only_values_from_context,
        only_keys_from_context,
        cross_mask_forgotten,
        cross_output_not_projected,
        cross_keys_by_q_proj,
        cross_values_by_k_proj,
        cross_keys_and_values_exchanged,
        cross_without_heads,
        cross_input_added,
        x_joins_the_keys,
        layer_of_the_context,
        cross_pair_returned,
        cross_not_scaled,
        cross_scaled_by_d_model,
        cross_softmax_over_queries,
        cross_split_by_view,
        cross_merged_by_view,
        cross_split_and_merged_by_view,
    ),
    "head_contributions": (
        rows_of_w_o,
        w_o_regrouped,
        w_o_viewed_as_transposed,
        columns_dealt_out,
        contributions_averaged,
        contributions_summed,
        contributions_after_tokens,
        first_columns_for_all,
        columns_in_reverse,
        output_without_the_head,
        output_so_far,
        output_for_every_head,
        merged_by_reshape,
        contributions_side_by_side,
    ),
    "layer_cost": (
        projections_times_heads,
        parameters_times_heads,
        projections_of_one_head,
        biases_forgotten,
        biases_always,
        one_bias_per_projection,
        one_projection_biased,
        three_projections,
        products_times_heads,
        products_of_one_head,
        one_product_in_each_head,
        products_forgotten,
        projections_forgotten,
        projected_once,
        tokens_counted_once,
        counted_twice,
        additions_of_biases,
        cost_in_reverse,
    ),
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
    "induction_score": (
        score_of_the_same_token,
        score_two_after,
        score_of_the_previous_token,
        divided_by_all_positions,
        one_position_too_many,
        one_position_too_few,
        last_position_left_out,
        score_per_text,
        score_of_all_heads,
        mean_over_the_heads,
        summed_not_averaged,
        everything_summed,
        divided_by_the_period,
        keys_taken_for_queries,
        last_copy_only,
        largest_weight,
        all_pairs,
        position_zero_too,
    ),
    "repeat_kv": (
        copies_alternate,
        tokens_repeated,
        text_repeated,
        batch_repeated,
        batch_repeated_in_place,
        features_repeated,
        copies_not_joined,
        copies_behind_tokens,
        first_head_repeated,
        one_copy_too_many,
        n_repeats_heads,
        nothing_repeated,
        copies_divided,
        copies_of_zeros,
    ),
    "kv_cache_bytes": (
        keys_only,
        numbers_counted,
        one_layer,
        one_text,
        one_kv_head,
        one_token,
        width_forgotten,
        pairs_of_tokens,
        always_two_bytes,
        queries_kept_too,
        bits_counted,
        kibibytes,
        mebibytes,
        gibibytes,
        megabytes,
        factors_added,
    ),
    "GroupedQueryAttention": (
        FullWidthForAll,
        WidthOfOneHead,
        WidthDividedByKvHeads,
        NumberOfHeadsForWidth,
        GroupedBiasAlways,
        QueriesNarrowToo,
        OnlyKeysNarrow,
        RepeatedBeforeAttend,
        RepeatedAlternating,
        GroupedMaskForgotten,
        GroupedOwnAttention,
        KeysSplitLikeQueries,
        PlainAttentionCalled,
        GroupedOutputNotProjected,
        GroupedMergedByView,
        ValuesByKeyProjection,
        GroupedKeysAndValuesExchanged,
        KvHeadsAveraged,
        GroupedNotInitialised,
    ),
    "block_sparse_attention": (
        blocks_taken_whole,
        everything_computed,
        nan_within_blocks,
        softmax_in_each_block,
        mean_of_the_blocks,
        last_keys_dropped,
        last_queries_dropped,
        diagonal_blocks_only,
        first_block_only,
        last_block_only,
        only_full_blocks,
        large_negative_number,
        sparse_not_scaled,
        mask_turned_around,
        blocks_of_the_first_queries,
        wrong_columns_of_the_mask,
    ),
}
