"""What PyTorch's and NumPy's error messages mean, in one sentence each.

    explain(error)    "" if nothing is known

Learners meet the same dozen errors again and again, and most say what was violated, not what was
done. The explanations name the usual cause and the usual way out.
"""

import re
import traceback
from pathlib import Path

HERE = Path(__file__).parent

MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"Boolean value of Tensor with more than one value is ambiguous\n.*(?<![.\w])(max|min)\(",
        "Python's max and min ask which of two whole tensors is larger, and want one True or "
        "False. PyTorch has functions of its own, which compare element by element",
    ),
    (
        r"Boolean value of Tensor with more than one value is ambiguous",
        "`if`, `and`, `or` and `not` ask a whole tensor for one True or False. Use &, | and ~ for "
        "tensors, or `is not None` to ask whether there is one",
    ),
    (
        r"The truth value of an array with more than one element is ambiguous",
        "`if`, `and`, `or` and `not` ask a whole array for one True or False. Use &, | and ~ for "
        "arrays, or `is not None` to ask whether there is one",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch, got input|"
        r"Expected size for first two dimensions of batch2 tensor|inconsistent tensor size",
        "in a @ b the last axis of a must be as long as the second to last of b. Is a transpose "
        "missing, or are the two the wrong way round?",
    ),
    (
        r"matmul: Input operand 1 has a mismatch in its core dimension",
        "in a @ b the last axis of a must be as long as the second to last of b. Is "
        "swapaxes(-2, -1) missing, or are the two the wrong way round?",
    ),
    (
        r"The size of tensor a \(\d+\) must match the size of tensor b \(\d+\)",
        "broadcasting compares sizes from the right, and two sizes fit if they are equal or one is "
        "1. Is a keepdim=True or a transpose missing, a [:, None] in the wrong place, or * used "
        "for the matrix product @?",
    ),
    (
        r"operands could not be broadcast together",
        "broadcasting compares sizes from the right, and two sizes fit if they are equal or one is "
        "1. Is a keepdims=True or a [:, None] missing?",
    ),
    (
        r"return_types\.(max|min)|not torch\.return_types",
        "x.max(dim) returns a pair, values and indices. Use x.amax(dim), or .values of the pair",
    ),
    (
        r"(max|min|sum|mean|std|var)\(\) received an invalid combination of arguments.*axis",
        "NumPy's functions hand axis and keepdims on to the tensor, which knows dim and keepdim: "
        "use its own, such as x.amax(dim, keepdim=True)",
    ),
    (
        r"transpose\(\) received an invalid combination of arguments",
        "transpose needs the two axes to swap: x.transpose(-2, -1), or x.mT for the last two",
    ),
    (
        r"(arg)?sort\(\) takes from 1 to 0 positional arguments|"
        r"(arg)?sort\(\) received an invalid combination of arguments.*stable",
        "with stable=..., sort and argsort want the axis by its name: dim=-1",
    ),
    (
        r"'torch\.Size' object is not callable",
        "shape is not a function: x.shape[-1], or x.size(-1)",
    ),
    (
        r"'str' object is not callable",
        "what is called here is a name, a string: choose the function that it names, and call that",
    ),
    (
        r"\w+\(\): argument 'input' \(position 1\) must be Tensor, not (int|float)",
        "torch's functions take tensors. For a single number there is math: math.sqrt, math.exp",
    ),
    (
        r"Dimension out of range",
        "the tensor has fewer axes than this axis number asks for. Negative numbers count from the "
        "right: -1 is the last axis, however many there are before it",
    ),
    (
        r"AxisError|axis -?\d+ is out of bounds",
        "the array has fewer axes than this axis number asks for. Negative numbers count from the "
        "right: -1 is the last axis, however many there are before it",
    ),
    (
        r"modified by an inplace operation",
        "something like x -= 1, x /= y, x[...] = or masked_fill_ has overwritten values that the "
        "backward pass needs. Make a new tensor instead: x = x - 1, masked_fill",
    ),
    (
        r"a leaf Variable that requires grad is being used in an in-place operation|"
        r"a view of a leaf Variable that requires grad",
        "an input that requires gradients must not be changed in place (x -= 1, x[...] =). Make a "
        "new tensor instead",
    ),
    (
        r"element 0 of tensors does not require grad",
        "the result is cut off from its inputs: .detach(), .item(), .data, NumPy or torch.tensor() "
        "lose the gradient",
    ),
    (
        r"Can't call numpy\(\) on Tensor that requires grad",
        "NumPy can't follow gradients. Keep to PyTorch's own functions",
    ),
    (
        r"softmax_lastdim_kernel_impl|\"softmax[^\"]*\" not implemented for|"
        r"\"exp[^\"]*\" not implemented for|\"_?amax[^\"]*\" not implemented for 'Bool'",
        "this needs floating-point numbers, and was given whole numbers or booleans. Is a .float() "
        "missing, or is the mask where the scores should be?",
    ),
    (
        r"result type (Float|Double|Half) can't be cast to the desired output type",
        "an in-place operation would have to put floating-point results into whole numbers. Make a "
        "new tensor instead",
    ),
    (
        r"expected scalar type|expected m1 and m2 to have the same dtype|"
        r"must have the same (dtype|scalar type)|same dtype, but got|object of scalar type",
        "two tensors of different dtypes meet in one operation. Bring one to the other's: "
        "x.to(y.dtype)",
    ),
    (
        r"masked_fill_? only supports boolean masks|expected mask to be (a )?bool",
        "masked_fill takes a boolean mask. Compare with something (mask == 0), or make the mask "
        "with dtype=torch.bool",
    ),
    (
        r"where expected condition to be a boolean",
        "torch.where takes a boolean condition first, then the value where it is True, then the "
        "other one",
    ),
    (
        r"bitwise_not|Bitwise not|ufunc 'invert' not supported|bad operand type for unary ~|"
        r"`?~`? \(operator\.invert\)",
        "~ inverts booleans, and this mask is not boolean",
    ),
    (
        r"Subtraction, the `-` operator, with (a|two) bool tensor|numpy boolean subtract",
        "booleans can't be subtracted. Invert them with ~, or make numbers of them first",
    ),
    (
        r"Expected all tensors to be on the same device|"
        r"Tensor on device \S+ is not on the expected device",
        "a tensor was made on the CPU where another device is used: give new tensors "
        "device=x.device",
    ),
    (
        r"shape '\[[^\]]*\]' is invalid for input of size|cannot reshape array of size",
        "the new shape must hold exactly as many values as the old one. Moving axes is the work of "
        "transpose, not of view or reshape",
    ),
    (
        r"view size is not compatible with input tensor's size and stride",
        "view needs the values in order in memory, and a transpose or expand has changed that. Use "
        "reshape, or .contiguous() first",
    ),
    (
        r"only one element tensors can be converted|a Tensor with \d+ elements cannot be converted|"
        r"only (integer|length-1|0-dimensional) \w*\s*(tensors|arrays)",
        "a whole tensor is used where a single number is needed. math.exp, float() and int() work "
        "on one number; torch.exp works on all",
    ),
    (
        r"must be real number, not (NoneType|str|tuple)|unsupported operand type\(s\).*NoneType",
        "one side is None: does a function that you call return nothing, or is an optional "
        "argument used without asking whether it is there?",
    ),
    (
        r"'NoneType' object has no attribute|'NoneType' object is not (subscriptable|iterable)",
        "the value is None: is it an optional argument that was not given, or the result of a "
        "function without return?",
    ),
    (
        r"'tuple' object has no attribute|can't multiply sequence by non-int|"
        r"argument 'input' .* must be Tensor, not tuple",
        "this is a tuple of two results. Unpack it: output, weights = attention(q, k, v)",
    ),
    (
        r"not enough values to unpack|too many values to unpack",
        "the number of names on the left differs from the number of values on the right. For the "
        "last two sizes of a shape: T_q, T_k = scores.shape[-2:]",
    ),
    (
        r"cannot assign module before Module\.__init__\(\) call|"
        r"cannot assign parameters? before Module\.__init__\(\) call",
        "the first line of __init__ must be super().__init__(): it prepares the layer to hold "
        "parameters and other layers",
    ),
    (
        r"len\(\) of a 0-d tensor|iteration over a 0-d tensor",
        "this tensor has no axes, it is a single number; x.numel(), the number of its elements, is "
        "1 then",
    ),
    (
        r"index -?\d+ is out of bounds|index out of range|indices should be",
        "an index is at or past the end of its axis: positions run from 0 to size - 1",
    ),
    (
        r"The expanded size of the tensor[^\n]*\n.*(\bexpand(_as)?|broadcast_to)\(",
        "expand stretches axes of size 1 only. It compares sizes from the right, and each must be "
        "1 or the wanted one already. Is an axis of size 1 missing, x[:, None], or is it in "
        "another place?",
    ),
    (
        r"The expanded size of the tensor|shape mismatch: value (tensor|array)",
        "what is written into a slice must have its shape, or broadcast to it. Count the rows and "
        "columns on both sides of the =",
    ),
    (
        r"shape mismatch: indexing (tensors|arrays) could not be broadcast",
        "index tensors that are used together, x[i, j], must have one shape, or shapes that "
        "broadcast",
    ),
    (
        r"Index tensor must have the same number of dimensions",
        "scatter and gather need an index with as many axes as the tensor; index[..., None] adds "
        "one",
    ),
    (
        r"tensors used as indices must be|arrays used as indices must be|"
        r"to have one of the following scalar types: Long, Int|Expected dtype int\S* for index|"
        r"are valid indices|slice indices must be integers",
        "an index must hold whole numbers, and this one holds others. Is a .long() missing, or was "
        "something divided with / in place of //?",
    ),
    (
        r"outer: Expected 1-D argument",
        "torch.outer takes two tensors with one axis each. For more axes: x[..., None] * y",
    ),
    (
        r"tril\w* not implemented|input tensor must have at least 2 dimensions",
        "this function needs a matrix, two axes or more",
    ),
    (
        r"The shape of the mask .* does not match the shape of the indexed tensor|"
        r"boolean index did not match indexed array",
        "a boolean index must have the very shape of what it indexes, it is not broadcast. "
        "masked_fill, torch.where and np.where do broadcast a mask",
    ),
    (
        r"Expected a 'cpu' device|'numpy\.ndarray' object has no attribute|"
        r"argument 'input' .* must be Tensor, not numpy\.ndarray",
        "this is a NumPy array, and PyTorch's functions and methods don't take it",
    ),
    (
        r"'float' object cannot be interpreted as an integer|must be (tuple of )?ints?, not float",
        "a whole number is needed here, and / gives a float: use //",
    ),
    (
        r"too many indices for tensor of dimension",
        "there are more indices in the brackets than the tensor has axes; ... stands for any "
        "number of them",
    ),
    (
        r"Integers to negative integer powers are not allowed",
        "a tensor of whole numbers has no negative powers: make it floating first, or begin with "
        "2.0",
    ),
    (
        r"math domain error|expected a positive input",
        "a logarithm or a root of a number that has none: limit the number from below first",
    ),
    (
        r"cannot convert float (infinity|NaN)",
        "an infinite number or a nan can't become a whole number: is there a logarithm of 0, or a "
        "division by 0?",
    ),
    (
        r"Expected both inputs to be Half, Float or Double tensors|unsupported ScalarType BFloat16",
        "complex numbers and NumPy don't know bfloat16: compute in float32, and bring the result "
        "back with .to(x.dtype)",
    ),
    (
        r"Sizes of tensors must match except in dimension|stack expects each tensor to be equal",
        "the tensors that are joined differ in size along another axis",
    ),
    (
        r"unhashable type: '(list|dict|set)'",
        "what is put into a set, or is a key of a dictionary, must be something that can't change: "
        "make it a tuple",
    ),
    (
        r"Unexpected key\(s\) in state_dict:[^\n]*\"param_groups\"",
        "this is the state of an optimizer, and the model has one of its own",
    ),
    (
        r"Missing key\(s\) in state_dict:[^\n]*\n\s*Unexpected key\(s\)",
        "names must be those of the model's own state_dict(), to the letter: save what it gives, "
        "and change none",
    ),
    (
        r"Missing key\(s\) in state_dict",
        "save a copy of all that state_dict() gives. named_parameters() has no buffers, such as "
        "the running means of a batch norm; and a dictionary that is still empty has nothing",
    ),
    (
        r"Unexpected key\(s\) in state_dict",
        "save what the model's own state_dict() gives, and nothing else",
    ),
    (
        r"size mismatch for \S+: copying a param|loaded state dict (has|contains)",
        "a state fits only what was built like the one that it was saved from: the same sizes, the "
        "same parameters in the same groups",
    ),
    (
        r"expected torch\.Tensor or Tensor-like object from checkpoint",
        "the entries of a state are tensors: copy each with .clone(), and make nothing else of it",
    ),
    (
        r"Expected state_dict to be dict-like",
        "load_state_dict takes the dictionary that state_dict() gives. Is something else kept, or "
        "nothing so far?",
    ),
    (
        r"KeyError: 'param_groups'",
        "an optimizer takes a state of its own, and this is another: the model's?",
    ),
    (
        r"1-d non-negative integral",
        "bincount takes a flat tensor of whole numbers, 0 or more: flatten() first, and leave out "
        "what is negative",
    ),
    (
        r"unsupported operand type\(s\) for \S+: "
        r"('list' and '(int|float)'|'(int|float)' and 'list')",
        "a list doesn't compute: go through its elements, or make it an array or a tensor",
    ),
)


def line_of(error: BaseException) -> str:
    """The line that raised an error: what it calls tells apart errors of one wording.

    The grader watches calls of torch from inside, so its own frames don't count, nor torch's.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent != HERE and "site-packages" not in frame.filename
    ]
    return frames[-1].line or "" if frames else ""


def explain(error: BaseException) -> str:
    """The usual cause of an error, as a sentence without a full stop; "" if none is known."""
    text = f"{type(error).__name__}: {error}\n{line_of(error)}"
    return next((meaning for sign, meaning in MEANINGS if re.search(sign, text)), "")
