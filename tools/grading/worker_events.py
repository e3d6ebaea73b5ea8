"""The form of what a worker reports, for a worker that may be hostile."""

from typing import Any

from utils.grader.report import SOLVED, TO_DO, WRONG

TYPES: dict[str, Any] = {  # of the values of a case
    "outcome": str,
    "check": str,
    "message": str,
    "explained_by": list | None,
    "resembles": list,
    "refuted": list,
    "pairs": list,
    "margin": int | float,
    "broken_file": bool,
    "is_replaced": bool,
    "printed": str,
    "wrong_answer": str,
    "own_diagnosis": str,
    "function": str,
    "exercise": str,
}


def is_event(event: dict[str, Any]) -> bool:
    """Whether an event has the form that utils/grader/worker.py gives it."""
    kind = event.get("event")
    values = {name: value for name, value in event.items() if name != "event"}
    if kind == "case":
        lists = [values.get(name) or [] for name in ("explained_by", "resembles", "refuted")]
        pairs = values.get("pairs")
        return (
            values.keys() == TYPES.keys()
            and all(isinstance(values[name], TYPES[name]) for name in TYPES)
            and all(isinstance(text, str) for one in lists for text in one)
            and isinstance(pairs, list)
            and all(is_pair(pair) for pair in pairs)
            and values["outcome"] in (SOLVED, WRONG, TO_DO)
        )
    forms: dict[str, dict[str, Any]] = {
        "start": {"exercise": str},
        "loaded": {},
        "end": {"code": int},
        "ready": {},
        "error": {"phase": str, "message": str},
    }
    form = forms.get(str(kind))
    return (
        form is not None
        and values.keys() == form.keys()
        and all(isinstance(values[name], form[name]) for name in form)
    )


def is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
