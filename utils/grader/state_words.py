"""What is wrong with a state that load_state_dict refuses, in one line.

    in_one_line(error)    "load_state_dict: the state lacks 1.running_mean and 1.running_var"

PyTorch says it in a paragraph, with every name and both shapes of each.
"""

import re

NAMES_SHOWN = 2
LOADING = re.compile(r"Error\(s\) in loading state_dict for ")
NAME = re.compile(r'"([^"]+)"')
SIZE = re.compile(r"size mismatch for (\S+): .*?Size\(\[(.*?)\]\).*?Size\(\[(.*?)\]\)")
VALUE = re.compile(r'parameter named "(\S+)", expected .* received <class \'(\S+)\'>')


def in_one_line(error: BaseException) -> str:
    """Python's message in one line; PyTorch's about a state in the words of this course."""
    text = " ".join(str(error).split())
    problems = problems_of(text) if LOADING.match(text) else []
    if problems:
        return f"load_state_dict: {'; '.join(problems)}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def problems_of(text: str) -> list[str]:
    """What PyTorch lists, each in a few words."""
    problems = []
    for title, said in (("Missing", "the state lacks"), ("Unexpected", "the model has no")):
        listed = re.search(rf'{title} key\(s\) in state_dict: ("[^:]*")', text)
        if listed:
            problems.append(f"{said} {some(NAME.findall(listed[1]))}")
    for name, ours, models in SIZE.findall(text)[:NAMES_SHOWN]:
        problems.append(f"{name} has the shape [{ours}], and [{models}] in the model")
    for name, type_name in VALUE.findall(text)[:NAMES_SHOWN]:
        problems.append(f"{name} is not a tensor, but {type_name}")
    return problems


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    shown = names[:NAMES_SHOWN] + ([f"{more} more"] if more > 0 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
