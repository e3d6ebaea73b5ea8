"""Common wrong answers to the exercises of lesson 08; each diagnosis is shown to a learner.

Each exercise has one faulty implementation, `saved_with` and so on, which is right until a setting
makes one mistake. Settings combine, so two mistakes at once are recognized as well. What fits no
setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists them by
the function that they imitate.
"""

import ast
import contextlib
import copy
import difflib
import json
import math
import os
import random
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from rotary_layouts import halves_to_interleaved, interleaved_to_halves
from utils.grader.mistakes import mistakes

# --- 8.1 predict_after_crash ---


def predicted_with(
    *, first: float = 0, second: float = 30, third: float = 100, fourth: float = 60
) -> tuple[float, ...]:
    """The four sizes."""
    return first, second, third, fourth


PREDICTED = mistakes(
    predicted_with,
    written_is_in_the_file=(
        "the first size: write puts bytes into a buffer of the program's own, which dies with it",
        {"first": 30},
    ),
    old_bytes_until_the_flush=(
        'the first size: "wb" empties the file at once, whatever is written later',
        {"first": 100},
    ),
    old_bytes_behind_the_unflushed=(
        'the first size: neither has "wb" kept the old bytes, nor has write passed on the new ones',
        {"first": 130},
    ),
    all_new_bytes_at_once=(
        "the first size: half of the new bytes were not even written yet",
        {"first": 60},
    ),
    flush_needs_fsync=(
        "the second size: after a flush the bytes are with the system, which outlives the program; "
        "fsync is for a power cut",
        {"second": 0},
    ),
    old_bytes_behind_the_new=(
        'the second size: "wb" has emptied the file, so no old bytes follow the new ones',
        {"second": 100},
    ),
    appended=(
        'the second size: "wb" writes from the beginning of an empty file; "ab" would append',
        {"second": 130},
    ),
    flush_completes=(
        "the second size: flush passes on what was written so far, and that is a half",
        {"second": 60},
    ),
    sibling_read=(
        "the third size: the new bytes are in best.bin.tmp; a reader opens best.bin",
        {"third": 60},
    ),
    name_without_a_file=(
        "the third size: nothing has touched best.bin yet, so it isn't empty",
        {"third": 0},
    ),
    both_files_counted=(
        "the third size: these are two files; a reader opens best.bin alone",
        {"third": 160},
    ),
    rename_needs_a_sync=(
        "the fourth size: every reader sees the new name at once; a sync of the folder is for a "
        "power cut",
        {"fourth": 100},
    ),
    rename_leaves_a_gap=(
        "the fourth size: os.replace has no instant at which the name is missing",
        {"fourth": 0},
    ),
    rename_appends=(
        "the fourth size: os.replace gives the name to the other file; nothing is added up",
        {"fourth": 160},
    ),
)


# --- 8.2 save_bytes ---


def saved_with(
    path: Path,
    data: bytes,
    *,
    place: str = "sibling",
    synced: str = "before",
    rename: str = "replace",
    inside: bool = False,
    on_error: str = "removed",
    raised: bool = True,
    name: str = "random",
) -> None:
    """Save a file."""
    if place == "in place":
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return
    if place == "written twice":
        path.write_bytes(data)
    if place == "removed first":
        path.unlink(missing_ok=True)
    sibling = {
        "random": path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"),
        "suffix": path.with_suffix(".tmp"),
        "added suffix": path.with_name(f"{path.name}.tmp"),
    }[name]
    if place == "temporary folder":
        sibling = Path(tempfile.gettempdir()) / f"{secrets.token_hex(4)}.tmp"
    try:
        with sibling.open("wb") as file:
            file.write(data)
            if synced != "not flushed":
                file.flush()
            if synced in ("before", "not flushed"):
                os.fsync(file.fileno())
            if inside:
                file.flush()
                renamed_with(sibling, path, rename)
        if not inside:
            renamed_with(sibling, path, rename)
        if synced == "after":
            with path.open("rb") as file:
                os.fsync(file.fileno())
    except BaseException as error:
        is_ctrl_c = not isinstance(error, Exception)
        if on_error == "removed" or (on_error == "left by Ctrl-C" and not is_ctrl_c):
            sibling.unlink(missing_ok=True)
        elif on_error == "the file itself removed":
            path.unlink(missing_ok=True)
            sibling.unlink(missing_ok=True)
        if raised:
            raise


def renamed_with(sibling: Path, path: Path, rename: str) -> None:
    """Give the sibling its name."""
    if rename == "removed first":
        path.unlink(missing_ok=True)
        sibling.rename(path)
    elif rename == "backup":
        backup = path.with_name(f".{secrets.token_hex(4)}.old")
        if path.exists():
            path.replace(backup)
        sibling.replace(path)
        backup.unlink(missing_ok=True)
    elif rename == "copied":
        shutil.copyfile(sibling, path)
        sibling.unlink()
    elif rename == "os.rename":
        sibling.rename(path)
    elif rename == "kept":
        path.hardlink_to(sibling) if not path.exists() else sibling.replace(path)
    elif rename == "only a new one":
        if path.exists():
            sibling.unlink()
        else:
            sibling.replace(path)
    else:
        sibling.replace(path)


SAVED = mistakes(
    saved_with,
    in_place=(
        "path itself is opened for writing, which empties it at once; write a sibling, and rename "
        "it at the end",
        {"place": "in place"},
    ),
    removed_before_the_rename=(
        "for an instant path holds nothing, and if the rename fails then, both files are lost; the "
        "page bug_clinic.md, section 1, shows it",
        {"rename": "removed first"},
    ),
    removed_before_the_writing=(
        "path is removed before the new file is written; for all that time there is none",
        {"place": "removed first"},
    ),
    backup_made_first=(
        "the old file is moved aside first: until the new one is renamed, a reader finds nothing",
        {"rename": "backup"},
    ),
    copied_over=(
        "the sibling is copied onto path, and a copy opens path for writing: rename it instead",
        {"rename": "copied"},
    ),
    old_one_kept=(
        "a file that exists is not replaced; the new data are thrown away",
        {"rename": "only a new one"},
    ),
    plain_rename=(
        "a plain rename fails on Windows where path exists; there is one that replaces",
        {"rename": "os.rename"},
    ),
    not_synced=(
        "nothing is synced: after a power cut, the new name may stand for an empty file; flush and "
        "os.fsync before the rename",
        {"synced": "never"},
    ),
    synced_before_the_flush=(
        "os.fsync comes before the bytes have left Python's buffer: flush first",
        {"synced": "not flushed"},
    ),
    synced_after_the_rename=(
        "os.fsync comes after the rename; the data must be on disk before they get the name",
        {"synced": "after"},
    ),
    renamed_while_open=(
        "the file is renamed while it is open, which Windows refuses: leave the with block first",
        {"inside": True},
    ),
    sibling_left_over=(
        "after a failure the sibling is left over: remove it, and raise the error again",
        {"on_error": "left"},
    ),
    sibling_left_by_ctrl_c=(
        "Ctrl-C leaves the sibling behind: a KeyboardInterrupt is a BaseException, and except "
        "Exception doesn't catch it",
        {"on_error": "left by Ctrl-C"},
    ),
    file_removed_after_a_failure=(
        "after a failure path itself is removed; it still held the old data",
        {"on_error": "the file itself removed"},
    ),
    error_swallowed=(
        "the error is swallowed, so the caller believes that the file was saved: raise it again",
        {"raised": False},
    ),
    suffix_replaced=(
        "the sibling has a name that another file may have; add something random",
        {"name": "suffix"},
    ),
    suffix_added=(
        "the sibling has a name that another file may have; add something random",
        {"name": "added suffix"},
    ),
    in_a_temporary_folder=(
        "the new file is written to a temporary folder, which may be on another disk, from where "
        "nothing can be renamed; write beside path",
        {"place": "temporary folder"},
    ),
)


# --- 8.3 read_rows ---


def rows_with(
    text: str,
    *,
    cut: str = "newline",
    torn: str = "dropped",
    damaged: str = "error",
    names: str = "line",
    first: int = 1,
    empty: str = "error",
    other: str = "error",
    result: str = "rows",
) -> Any:
    """The rows of a log."""
    if cut == "splitlines":
        lines = text.splitlines()
        whole = lines if text.endswith("\n") or not text else lines[:-1]
        last = "" if text.endswith("\n") or not text else lines[-1]
    elif cut == "split anywhere":
        whole, last = text.split()[:-1], (text.split() or [""])[-1]
    elif cut == "one array":
        return rows_of_one_array(text)
    else:
        *whole, last = text.split("\n")
    if torn == "the last line always":
        whole, last = whole[:-1] if last == "" else whole, ""
    if torn == "kept" and last:
        whole = [*whole, last]
    if torn == "kept if it parses" and last and parses(last):
        whole = [*whole, last]
    rows: list[Any] = []
    for number, line in enumerate(whole, start=first):
        if empty == "skipped" and not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if damaged == "skipped":
                continue
            if damaged == "ends":
                break
            if damaged == "none":
                row = None
                rows.append(row)
                continue
            if names == "json":
                raise
            if names == "text":
                raise ValueError(f"damaged: {line!r}") from None
            if names == "total":
                raise ValueError(f"line {len(whole) + 1000} is damaged") from None
            raise ValueError(f"line {number} is damaged: {error.__class__.__name__}") from None
        if not isinstance(row, dict):
            if other == "skipped":
                continue
            if other != "kept":
                raise ValueError(f"line {number} is no object")
        rows.append(row)
    if result == "tuple":
        return tuple(rows)
    if result == "text":
        return [json.dumps(row) for row in rows]
    if result == "last":
        return rows[-1:]
    return rows


def rows_of_one_array(text: str) -> list[Any]:
    """All complete lines, joined by commas and read at once."""
    whole = text.rpartition("\n")[0]
    if not whole and not text.startswith("\n"):
        return []
    try:
        rows = json.loads("[" + whole.replace("\n", ",\n") + "]")
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
    return rows


def parses(line: str) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(line), dict)
    return False


ROWS = mistakes(
    rows_with,
    split_at_other_ends=(
        "str.splitlines also splits at U+2028 and other characters, in the middle of a string; "
        'split at "\\n"',
        {"cut": "splitlines"},
    ),
    torn_line_read=(
        "the torn line is read like the others; what follows the last newline is dropped",
        {"torn": "kept"},
    ),
    torn_line_kept_if_it_parses=(
        "a last line without a newline is kept if it can be read; it is torn all the same, and "
        "might be the beginning of another value",
        {"torn": "kept if it parses"},
    ),
    last_line_always_dropped=(
        "the last line is dropped even if it is complete; only what follows the last newline is "
        "torn",
        {"torn": "the last line always"},
    ),
    damaged_lines_skipped=(
        "damaged lines in the middle are skipped without a word; raise an error",
        {"damaged": "skipped", "other": "skipped"},
    ),
    reading_ends_at_the_damage=(
        "at a damaged line the reading ends without an error, and all rows after it are lost",
        {"damaged": "ends"},
    ),
    whatever_parses=(
        "every line is tried, and what can't be read is skipped: the torn line is dropped only by "
        "luck, and damage in the middle is hidden",
        {"torn": "kept if it parses", "damaged": "skipped"},
    ),
    all_lines_as_one_array=(
        "all lines are read at once, as one array, in which a damaged line spoils the place of the "
        "error: read each line by itself",
        {"cut": "one array"},
    ),
    none_for_damaged_lines=(
        "a damaged line becomes None; raise an error that names it",
        {"damaged": "none"},
    ),
    message_of_json=(
        "the error is that of json, whose line is counted within one row: it is always 1",
        {"names": "json"},
    ),
    line_not_named=(
        "the error shows the text of the line, and not its number",
        {"names": "text"},
    ),
    counted_from_zero=("the lines are counted from 0; count from 1", {"first": 0}),
    counted_from_two=(
        "the lines are counted as if there were a header; this log has none",
        {"first": 2},
    ),
    empty_lines_skipped=(
        "empty lines are skipped; an empty line that is complete is damaged",
        {"empty": "skipped"},
    ),
    other_values_kept=(
        "a number, a list or null counts as a row; only an object is one",
        {"other": "kept"},
    ),
    other_values_skipped=(
        "a line that holds something else than an object is skipped; it is an error",
        {"other": "skipped"},
    ),
    read_plainly=(
        "every line is read alike: drop what follows the last newline, and name the line that is "
        "damaged, which json's own error doesn't",
        {"torn": "kept", "names": "json", "other": "kept"},
    ),
    read_plainly_by_splitlines=(
        "every line is read alike: drop what follows the last newline, and name the line that is "
        "damaged, which json's own error doesn't",
        {"cut": "splitlines", "torn": "kept", "names": "json", "other": "kept"},
    ),
    read_plainly_without_empty_lines=(
        "every line is read alike: drop what follows the last newline, and name the line that is "
        "damaged, which json's own error doesn't",
        {"torn": "kept", "names": "json", "other": "kept", "empty": "skipped"},
    ),
    a_tuple=("the rows come as a tuple; a list is asked for", {"result": "tuple"}),
    rows_as_text=(
        "the rows are still text; json.loads makes them dictionaries",
        {"result": "text"},
    ),
    last_row_alone=("only the last row is returned", {"result": "last"}),
)


# --- 8.4 new_run_folder ---


def folder_with(
    parent: Path,
    seed: int,
    now: datetime,
    *,
    made: str = "tried",
    above: str = "all",
    time: str = "%Y%m%d-%H%M%S-",
    named: str = "time first",
    returned: str = "the folder",
    content: str = "nothing",
    tries: int = 1000,
) -> Any:
    """The folder of a new run."""
    if above == "all":
        parent.mkdir(parents=True, exist_ok=True)
    elif above == "one level":
        parent.mkdir(exist_ok=True)
    elif above == "once":
        parent.mkdir(parents=True)
    digits = random.Random(seed)
    clock = datetime.now() if named == "another time" else now
    for _ in range(tries):
        text = f"{digits.getrandbits(24):06x}"
        name = f"{clock:{time}}{text}"
        if named == "digits first":
            name = f"{text}-{clock:{time}}"
        folder = parent / name
        if made == "asked first":
            if folder.exists():
                continue
            folder.mkdir(exist_ok=True)
        elif made == "asked, then refused":
            if folder.exists():
                continue
            folder.mkdir()
        elif made == "shared":
            folder.mkdir(exist_ok=True)
        elif made == "tried once":
            folder.mkdir()
        elif made == "emptied":
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            shutil.rmtree(folder)
            folder.mkdir()
        elif made == "asked, then emptied":
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        elif made == "never":
            if folder.exists():
                continue
        elif made == "second try shared":
            try:
                folder.mkdir()
            except FileExistsError:
                folder = folder.with_name(f"{folder.name}-2")
                folder.mkdir(exist_ok=True)
        else:
            try:
                folder.mkdir()
            except FileExistsError:
                continue
        if content == "a file":
            (folder / "config.yaml").write_text("", encoding="utf-8")
        return {"the folder": folder, "its name": name, "parent": parent}[returned]
    raise FileExistsError("no name is free")


FOLDER = mistakes(
    folder_with,
    asked_and_then_shared=(
        "two programs that begin in the same instant can be given the same folder; the page "
        "bug_clinic.md, section 2, shows how",
        {"made": "asked first"},
    ),
    asked_and_then_failed=(
        "where another program makes the folder in the same instant, mkdir fails: catch the "
        "FileExistsError, and try the next name",
        {"made": "asked, then refused"},
    ),
    folder_shared=(
        "with exist_ok=True a folder that exists is given out again: two runs with one seed in one "
        "second share it",
        {"made": "shared"},
    ),
    tried_once=(
        "the name is tried once: where it is taken, the next one is needed",
        {"made": "tried once"},
    ),
    folder_of_another_emptied=(
        "the folder of another program is deleted and made anew",
        {"made": "emptied"},
    ),
    folder_that_exists_emptied=(
        "the folder of another program is deleted and made anew",
        {"made": "asked, then emptied"},
    ),
    ten_tries=(
        "after some tries it gives up, although other names are free: try until mkdir succeeds",
        {"tries": 10},
    ),
    three_tries=(
        "after some tries it gives up, although other names are free: try until mkdir succeeds",
        {"tries": 3},
    ),
    folder_never_made=("the folder is never made", {"made": "never"}),
    one_more_name=(
        "after the first name there is one more, and that is shared by all others; try until mkdir "
        "succeeds",
        {"made": "second try shared"},
    ),
    folder_above_missing=(
        "neither the folder of the runs nor the one above it needs to exist yet: parents=True",
        {"above": "never"},
    ),
    folder_two_above_missing=(
        "neither the folder of the runs nor the one above it needs to exist yet: parents=True",
        {"above": "one level"},
    ),
    folder_above_made_once=(
        "the folder of the runs exists already from the second run on: there exist_ok=True is "
        "right",
        {"above": "once"},
    ),
    minutes_for_months=(
        "month and minute are exchanged: %m is the month, %M the minute",
        {"time": "%Y%M%d-%H%m%S-"},
    ),
    twelve_hours=("the hours go to 12 only: %H, not %I", {"time": "%Y%m%d-%I%M%S-"}),
    no_seconds=("the seconds are missing from the name", {"time": "%Y%m%d-%H%M-"}),
    day_first=(
        "the day comes first, so that names don't sort by age: year, month, day",
        {"time": "%d%m%Y-%H%M%S-"},
    ),
    digits_first=(
        "the digits come first, so that names don't sort by age: begin with the time",
        {"named": "digits first"},
    ),
    time_ignored=("the time in the name isn't the one that was given", {"named": "another time"}),
    parent_returned=(
        "the folder above is returned; the run's own is asked for",
        {"returned": "parent"},
    ),
    something_written=(
        "there is already a file in the new folder; it should be empty",
        {"content": "a file"},
    ),
)


# --- 8.5 with_overrides ---


def overridden_with(
    config: Any,
    flags: Sequence[str],
    *,
    kinds: str = "annotations",
    booleans: str = "table",
    whole: str = "int",
    cut: str = "first",
    order: str = "last wins",
    others: str = "kept",
    unknown: str = "error",
    bare: str = "error",
    says: str = "all",
    spaces: str = "kept",
    result: str = "new",
) -> Any:
    """A configuration with some values replaced."""
    types = get_type_hints(type(config))
    if kinds == "values":
        types = {name: type(getattr(config, name)) for name in types}
    changes: dict[str, Any] = {}
    for flag in flags:
        name, equals, text = flag.rpartition("=") if cut == "last" else flag.partition("=")
        if cut == "two parts only" and flag.count("=") > 1:
            raise ValueError(f"{flag}: expected name=value")
        if cut == "all":
            name, equals, text = [*flag.split("="), "", ""][0], "=", [*flag.split("="), "", ""][1]
            equals = "=" if "=" in flag else ""
        if not equals and bare == "ignored":
            continue
        if not equals and bare == "true":
            text = "true"
        elif not equals:
            raise ValueError("expected name=value" + f": {flag}" * (says != "no flag"))
        if name not in types:
            if unknown == "ignored":
                continue
            if unknown == "TypeError":
                raise TypeError(f"unexpected keyword {name}")
            if unknown == "KeyError":
                raise KeyError(flag)
            close = difflib.get_close_matches(name, list(types), n=1, cutoff=0.6)
            hint = f" (did you mean {close[0]!r}?)" if close and unknown != "no hint" else ""
            if unknown == "all names":
                hint = f"; known are {', '.join(types)}"
            raise ValueError(f"unknown{hint}" + f": {flag}" * (says != "no flag"))
        if order == "first wins" and name in changes:
            continue
        kind = types[name]
        try:
            changes[name] = read_with(kind, text, kinds, booleans, whole, spaces)
        except (KeyError, ValueError, SyntaxError, NameError):
            if bare == "true" and not equals:
                raise ValueError(flag) from None
            named = f", expected {kind.__name__}" * (says not in ("no type", "no flag or type"))
            shown = "wrong value" if says in ("no flag", "no flag or type") else flag
            if says == "name only":
                shown = name
            raise ValueError(f"{shown}{named}") from None
    if others == "defaults":
        return type(config)(**changes)
    if result == "dictionary":
        return {**vars(config), **changes}
    if result == "in place":
        for name, value in changes.items():
            object.__setattr__(config, name, value)
        return config
    return replace(config, **changes)


def read_with(kind: Any, text: str, kinds: str, booleans: str, whole: str, spaces: str) -> Any:
    """One value."""
    if kinds == "text":
        return text
    if kinds == "literals":
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text
    if kinds == "Python literals":
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        if not isinstance(value, kind):
            raise ValueError(text)
        return value
    if kind is bool:
        if booleans == "bool":
            return bool(text)
        if booleans == "any case":
            return {"true": True, "false": False}[text.lower()]
        if booleans == "anything else is false":
            return text == "true"
        if booleans == "words":
            known = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
            return known[text]
        if booleans == "exchanged":
            return {"true": False, "false": True}[text]
        return {"true": True, "false": False}[text]
    if kind is int and whole == "through float":
        return int(float(text))
    if kind is int and whole == "empty is zero":
        return int(text or 0)
    if kind is float and whole == "int first" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind is str and spaces == "lower":
        return text.upper()
    return kind(text)


OVERRIDDEN = mistakes(
    overridden_with,
    any_text_is_true=(
        'bool("false") is True, because the text is not empty; compare it with "true" and "false"',
        {"booleans": "bool"},
    ),
    anything_else_is_false=(
        'every text but "true" becomes False, a typing error too; only "false" should',
        {"booleans": "anything else is false"},
    ),
    booleans_in_any_case=(
        '"False" is accepted; a bool is "true" or "false"',
        {"booleans": "any case"},
    ),
    more_words_for_booleans=(
        '"yes" and "1" are accepted; a bool is "true" or "false"',
        {"booleans": "words"},
    ),
    types_of_the_values=(
        "the type is taken from the present value; a float field may hold the int 0: use the "
        "annotation",
        {"kinds": "values"},
    ),
    everything_is_text=("the values stay text; each has the type of its field", {"kinds": "text"}),
    read_as_literals=(
        "the type is guessed from the text; it should be that of the field: "
        'the name "12" is text, and a float of 1 is 1.0',
        {"kinds": "literals"},
    ),
    read_as_python=(
        "the value is read as Python code, in which a text needs quotes and 1 is no float: call "
        "the type of the field with the text",
        {"kinds": "Python literals"},
    ),
    whole_numbers_through_float=(
        "an int is read by way of a float, so 2.5 is cut to 2; it should be an error",
        {"whole": "through float"},
    ),
    empty_is_zero=(
        "nothing after the = becomes 0; it should be an error",
        {"whole": "empty is zero"},
    ),
    int_in_a_float_field=(
        "a float that looks like a whole number becomes an int",
        {"whole": "int first"},
    ),
    cut_at_the_last=(
        'a flag whose value holds a "=" goes wrong: cut it at the first "=", and only there',
        {"cut": "last"},
    ),
    two_parts_only=(
        'a flag whose value holds a "=" goes wrong: cut it at the first "=", and only there',
        {"cut": "two parts only"},
    ),
    cut_at_every_one=(
        'the flag is cut at every "=", and the rest of the value is lost: cut at the first',
        {"cut": "all"},
    ),
    first_flag_wins=(
        "of two flags with one name the first wins; the last should",
        {"order": "first wins"},
    ),
    other_fields_reset=(
        "the other fields get their defaults; they should stay as the configuration has them",
        {"others": "defaults"},
    ),
    unknown_names_ignored=(
        "an unknown name is ignored, and a typing error changes nothing: raise a ValueError",
        {"unknown": "ignored"},
    ),
    no_suggestion=(
        "the error for an unknown name lacks the closest one: did_you_mean(name, names)",
        {"unknown": "no hint"},
    ),
    type_error_for_unknown=(
        "an unknown name ends in the TypeError of the constructor; look it up first, and raise a "
        "ValueError",
        {"unknown": "TypeError"},
    ),
    key_error_for_unknown=(
        "an unknown name ends in a KeyError; raise a ValueError",
        {"unknown": "KeyError"},
    ),
    bare_flags_ignored=(
        'a flag without "=" is ignored; it should be an error',
        {"bare": "ignored"},
    ),
    bare_flags_true=('a flag without "=" becomes true; it should be an error', {"bare": "true"}),
    flag_not_shown=("the error does not hold the flag as it was given", {"says": "no flag"}),
    name_alone_shown=(
        "the error for a wrong type holds the name without the value; show the whole flag",
        {"says": "name only"},
    ),
    type_not_named=(
        "the error for a wrong type does not say which type is expected",
        {"says": "no type"},
    ),
    a_dictionary=("this is a dictionary; a configuration is asked for", {"result": "dictionary"}),
    changed_in_place=(
        "the configuration that was given is changed; dataclasses.replace makes a new one",
        {"result": "in place"},
    ),
)


# --- 8.6 restore ---


def restored_with(
    state: Mapping[str, Any],
    build: Callable[[], tuple[nn.Module, Optimizer]],
    *,
    generator: str = "last",
    weights: str = "loaded",
    averages: str = "loaded",
    whose: str = "its own",
    steps: int = 0,
    mode: str = "training",
    rate: float = 1.0,
) -> Any:
    """Continue a run."""
    before = torch.get_rng_state()
    if generator == "first":
        torch.set_rng_state(state["random"])
    elif generator.startswith("first seed "):
        torch.manual_seed(int(generator.removeprefix("first seed ")))
    model, optimizer = build()
    if whose == "of another build":
        _, optimizer = build()
    if generator == "before the loading":
        torch.set_rng_state(state["random"])
        torch.rand(1)
    if weights == "loaded":
        model.load_state_dict(state["model"])
    elif weights == "first layer":
        model.load_state_dict({**model.state_dict(), **first_layer(state["model"])})
    if averages == "loaded":
        optimizer.load_state_dict(state["optimizer"])
    elif averages == "rates only":
        for mine, saved in zip(
            optimizer.param_groups, state["optimizer"]["param_groups"], strict=True
        ):
            mine["lr"] = saved["lr"]
    elif averages == "without their steps":
        optimizer.load_state_dict(without_steps(state["optimizer"]))
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * rate
    if whose == "of a copy":
        model = copy.deepcopy(model)
    if mode == "evaluation":
        model.eval()
    if generator == "last":
        torch.set_rng_state(state["random"])
    elif generator == "as before the call":
        torch.set_rng_state(before)
    elif generator == "the step":
        torch.manual_seed(state["step"])
    elif generator.startswith("seed "):
        torch.manual_seed(int(generator.removeprefix("seed ")))
    elif generator == "the seed of the state":
        torch.manual_seed(int(state["random"][0]))
    elif generator == "a draw afterwards":
        torch.set_rng_state(state["random"])
        torch.rand(1)
    return model, optimizer, state["step"] + steps


def first_layer(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name.startswith("0.")}


def without_steps(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of an optimizer whose count of steps begins again."""
    fresh = copy.deepcopy(dict(state))
    for each in fresh["state"].values():
        each["step"] = torch.zeros_like(each["step"])
    return fresh


RESTORED = mistakes(
    restored_with,
    restored_before_the_building=(
        "the steps begin at another place in the sequence of random numbers than the one that was "
        "saved; the page bug_clinic.md, section 3, shows how to see it",
        {"generator": "first"},
    ),
    put_back=(
        "at the end the generator has the state from before the call; it should have the saved one",
        {"generator": "as before the call"},
    ),
    not_restored=(
        "the random state is not restored, so dropout hits other features",
        {"generator": "never"},
    ),
    seeded_with_0=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "seed 0"},
    ),
    seeded_with_0_first=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "first seed 0"},
    ),
    seeded_with_42=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "seed 42"},
    ),
    seeded_with_42_first=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "first seed 42"},
    ),
    seeded_with_1337=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "seed 1337"},
    ),
    seeded_with_1337_first=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "first seed 1337"},
    ),
    seeded_with_the_step=(
        "a seed begins the sequence of random numbers anew; the saved state continues it",
        {"generator": "the step"},
    ),
    drawn_afterwards=(
        "something draws a random number after the state was restored",
        {"generator": "a draw afterwards"},
    ),
    weights_not_loaded=("the weights are those of a new model", {"weights": "new"}),
    first_layer_alone=(
        "some of the weights are loaded, and the others are new",
        {"weights": "first layer"},
    ),
    averages_not_loaded=(
        "the optimizer begins anew: its running averages are part of the state",
        {"averages": "new"},
    ),
    steps_of_the_averages_lost=(
        "the optimizer counts its steps from 0 again, so its averages are corrected as if they "
        "were new",
        {"averages": "without their steps"},
    ),
    optimizer_of_another_model=(
        "the optimizer holds the parameters of another model, so no weight ever changes",
        {"whose": "of another build"},
    ),
    model_copied=(
        "the optimizer holds the parameters of another model, so no weight ever changes",
        {"whose": "of a copy"},
    ),
    one_step_too_many=(
        "the number of steps done is one too large, and a batch is skipped",
        {"steps": 1},
    ),
    one_step_too_few=(
        "the number of steps done is one too small, and a batch is repeated",
        {"steps": -1},
    ),
    in_evaluation_mode=(
        "the model is in evaluation mode, in which dropout does nothing",
        {"mode": "evaluation"},
    ),
    rate_halved=("the learning rate is not the one that was saved", {"rate": 0.5}),
)


def restored_from_zero(
    state: Mapping[str, Any], build: Callable[[], tuple[nn.Module, Optimizer]]
) -> Any:
    """the steps are counted from 0 again, so the first batches come twice"""
    model, optimizer, _ = restored_with(state, build)
    return model, optimizer, 0


# --- 8.7 train_on ---


def trained_with(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
    *,
    shift: str = "none",
    peak: str = "start",
    change: str = "before",
    start: str = "done",
    record: str = "used",
    gradients: str = "zeroed",
) -> Any:
    """Continue a run with its learning rates."""
    (group,) = optimizer.param_groups
    now = group["lr"]
    base = now if peak == "present" else group.get("initial_lr", now)
    first = {"done": done, "zero": 0, "skip": done + 1, "repeat": max(done - 1, 0)}.get(start, done)
    taken = [*enumerate(batches)][first:]
    if start == "first batches":
        taken = [(i, batches[i - done]) for i, _ in taken]
    rates: list[float] = []
    for i, (x, y) in taken:
        at = {
            "none": i,
            "resumed": i + 1 if done else i,
            "resumed back": i - 1 if done else i,
            "one": i + 1,
            "back": max(i - 1, 0),
            "fresh": i - first,
            "double": done + 2 * (i - done),
            "added twice": i + done,
        }[shift]
        rate = base * schedule(at)
        if peak == "compounded":
            rate = now * schedule(at)
        if change == "constant":
            rate = now
        if change == "peak":
            rate = base
        if change == "after":
            rate, now = now, rate
        else:
            now = rate
        group["lr"] = base * schedule(at + 1) if change == "early" else rate
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        if gradients == "zeroed":
            optimizer.zero_grad()
        rates.append(base * schedule(at + 1) if record == "next" else rate)
    if record == "factors":
        return [rate / base for rate in rates]
    if record == "whole run":
        return [base * schedule(i) for i in range(done)] + rates
    return rates


TRAINED = mistakes(
    trained_with,
    resumed_one_ahead=(
        "a resumed run is one step ahead in the schedule, and a run from the start isn't; the page "
        "bug_clinic.md, section 4, shows where to look",
        {"shift": "resumed"},
    ),
    resumed_one_behind=(
        "a resumed run is one step behind in the schedule: its first step has the index done",
        {"shift": "resumed back"},
    ),
    always_one_ahead=(
        "every step has the rate of the next one; step i has schedule(i)",
        {"shift": "one"},
    ),
    one_behind=(
        "every step has the rate of the one before; step i has schedule(i)",
        {"shift": "back"},
    ),
    schedule_begins_again=(
        "the schedule begins again at its start; step `done` has schedule(done)",
        {"shift": "fresh"},
    ),
    scheduler_stepped_twice=(
        "the schedule moves two steps on for each step of the optimizer",
        {"shift": "double"},
    ),
    shifted_twice=(
        "`done` is added to the steps twice: with last_epoch, the scheduler counts from the start "
        "of the whole run already",
        {"shift": "added twice"},
    ),
    scheduler_before_the_optimizer=(
        "the scheduler steps before the optimizer, so each step is taken at the rate of the next",
        {"change": "early"},
    ),
    last_rate_as_the_peak=(
        "the schedule multiplies the rate of the last step; it should multiply the optimizer's "
        "initial_lr",
        {"peak": "present"},
    ),
    rates_compounded=(
        "each rate is multiplied into the one before; all are the initial rate times schedule(i)",
        {"peak": "compounded"},
    ),
    rate_constant=("the rate stays that of the last step", {"change": "constant"}),
    rate_of_the_peak=(
        "the rate stays at its peak; the schedule is not used",
        {"change": "peak"},
    ),
    changed_after_the_step=(
        "the rate is set after the optimizer's step, so each is used one step late",
        {"change": "after"},
    ),
    begins_at_the_first_batch=(
        "the run begins again at batch 0; `done` steps were taken already",
        {"start": "zero"},
    ),
    batch_skipped=("batch `done` is skipped; it is the next one", {"start": "skip"}),
    batch_repeated=("the last batch is learned twice; the next one is `done`", {"start": "repeat"}),
    batch_repeated_at_the_next_rate=(
        "the last batch is learned twice; the next one is `done`",
        {"start": "repeat", "shift": "resumed"},
    ),
    first_batches_again=(
        "the steps learn from the first batches again; step i learns from batches[i]",
        {"start": "first batches"},
    ),
    rates_noted_too_late=(
        "the rates are noted after scheduler.step(), so each is that of the next step",
        {"record": "next"},
    ),
    factors_noted=(
        "these are the factors of the schedule; the learning rates are asked for",
        {"record": "factors"},
    ),
    rates_of_the_whole_run=(
        "the rates of all steps are returned; only those of the remaining ones are asked for",
        {"record": "whole run"},
    ),
    gradients_not_zeroed=(
        "the gradients are not zeroed, so each step repeats those before",
        {"gradients": "kept"},
    ),
)


def last_epoch_is_done(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
) -> list[float]:
    """last_epoch is the index of the last step that was taken, done - 1: for done = 0 that is the
    -1 of a run that has not begun"""
    return trained_from(done, model, optimizer, batches, schedule, done)


def last_epoch_at_least_0(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
) -> list[float]:
    """a last_epoch of 0 says that step 0 was taken; before the first step it is -1"""
    return trained_from(max(done - 1, 0), model, optimizer, batches, schedule, done)


def last_epoch_too_small(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
) -> list[float]:
    """a resumed run is one step behind in the schedule: its first step has the index done"""
    return trained_from(max(done - 2, -1), model, optimizer, batches, schedule, done)


def trained_from(
    last_epoch: int,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    schedule: Callable[[int], float],
    done: int,
) -> list[float]:
    """Train with this last_epoch."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule, last_epoch=last_epoch)
    rates = []
    for x, y in batches[done:]:
        rates.append(scheduler.get_last_lr()[0])
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return rates


# --- 8.8 first_mismatch ---


def mismatch_with(
    actual: Tensor,
    expected: Tensor,
    rtol: float,
    atol: float,
    *,
    relative: str = "to expected",
    sign: str = "absolute",
    edge: str = "<=",
    nan: str = "nan only",
    infinite: str = "themselves",
    dtype: str = "float64",
    shapes: str = "error",
    which: str = "first",
    index: str = "tuple",
    none: str = "None",
) -> Any:
    """The first index where two tensors differ."""
    if actual.shape != expected.shape:
        if shapes == "error":
            raise ValueError("the shapes differ")
        if shapes == "none":
            return None
        if shapes == "index":
            return ()
        if shapes == "sizes" and actual.numel() != expected.numel():
            raise ValueError("the sizes differ")
        if shapes == "sizes":
            actual, expected = actual.flatten(), expected.flatten()
        actual, expected = torch.broadcast_tensors(actual, expected)
    a, e = actual.double(), expected.double()
    if dtype == "float32":
        a, e = actual.float(), expected.float()
    if dtype == "its own" and actual.dtype == expected.dtype and actual.dtype != torch.bool:
        a, e = actual, expected
    if nan == "zero":
        a, e = a.nan_to_num(nan=0.0, posinf=INF, neginf=-INF), e.nan_to_num(0.0, INF, -INF)
    of_both = relative in ("to actual", "to the larger")
    relative = relative.removesuffix(", inf too")
    size = {
        "to expected": e.abs,
        "to actual": a.abs,
        "to the larger": lambda: torch.maximum(a.abs(), e.abs()),
        "signed": lambda: e,
    }[relative if relative in ("to actual", "to the larger", "signed") else "to expected"]()
    allowed = atol + rtol * size
    if relative == "larger of both":
        allowed = torch.maximum(torch.full_like(rtol * size, atol), rtol * size)
    elif relative == "alone":
        allowed = rtol * size
    elif relative == "never":
        allowed = torch.full_like(rtol * size, atol)
    elif relative == "exchanged":
        allowed = rtol + atol * size
    far = a - e if sign == "signed" else (a - e).abs()
    close = far <= allowed if edge == "<=" else far < allowed
    if edge == "<":
        close = close | (a == e)
    if infinite not in ("allow all", "by their difference"):
        close = close & e.isfinite()
    if of_both:
        close = close & a.isfinite()
    if infinite == "never":
        close = close & a.isfinite()
    elif infinite == "by their difference":
        pass
    elif infinite == "any sign":
        close = close | (a.isinf() & e.isinf())
    elif edge == "<, equal ones too":
        close = close | ((a == e) & a.isinf())
    else:
        close = close | (a == e)
    if nan == "nan only":
        close = close | (a.isnan() & e.isnan())
    elif nan == "what differs":
        close = ~(far > allowed)
    elif nan == "everything":
        close = close | a.isnan() | e.isnan()
    elif nan == "expected nan":
        close = close | e.isnan()
    places = (~close).nonzero()
    if not len(places):
        return {"None": None, "()": (), "False": False, "-1": (-1,)}[none]
    if which == "last":
        place = places[-1]
    elif which in ("largest", "largest excess") and close.dim():
        far = far - allowed if which == "largest excess" else far
        error = far.double().nan_to_num(INF, INF, INF).masked_fill(close, -INF)
        place = (error == error.max()).nonzero()[0]
    elif which == "columns first":
        place = min(places.tolist(), key=lambda one: one[::-1])
        place = torch.tensor(place, dtype=torch.long)
    else:
        place = places[0]
    if index == "tensor":
        return place
    if index == "flat":
        return int((~close).flatten().int().argmax())
    if index == "list":
        return place.tolist()
    if index == "tensors":
        return tuple(place)
    if index == "flat, in a tuple":
        return (int((~close).flatten().int().argmax()),)
    if index == "or None":
        return tuple(place.tolist()) or None
    if index == "from 1":
        return tuple(i + 1 for i in place.tolist())
    if index == "count":
        return len(places)
    if index == "all":
        return [tuple(one) for one in places.tolist()]
    return tuple(place.tolist())


INF = math.inf

MISMATCH = mistakes(
    mismatch_with,
    relative_to_actual=(
        "the tolerance grows with the actual value; it should grow with the expected one",
        {"relative": "to actual"},
    ),
    relative_to_actual_and_infinite=(
        "the tolerance grows with the actual value; it should grow with the expected one",
        {"relative": "to actual, inf too"},
    ),
    relative_to_the_larger=(
        "the tolerance grows with the larger of the two values, as in math.isclose; it should grow "
        "with the expected one",
        {"relative": "to the larger"},
    ),
    larger_of_the_two=(
        "the larger of the two tolerances is taken, as in math.isclose; they are added",
        {"relative": "larger of both"},
    ),
    no_absolute=("atol is missing", {"relative": "alone"}),
    no_relative=("rtol is missing", {"relative": "never"}),
    tolerances_exchanged=("rtol and atol are exchanged", {"relative": "exchanged"}),
    negative_expected=(
        "rtol is multiplied by a negative value where the expected one is negative: take its "
        "absolute value",
        {"relative": "signed"},
    ),
    differences_signed=(
        "a difference below 0 always passes: take its absolute value",
        {"sign": "signed"},
    ),
    exactly_the_tolerance=(
        "a difference of exactly the tolerance counts as a mismatch; it should match",
        {"edge": "<"},
    ),
    exactly_the_tolerance_of_0=(
        "a difference of exactly the tolerance counts as a mismatch; it should match",
        {"edge": "<, equal ones too"},
    ),
    nan_never_matches=(
        "nan doesn't equal itself, so two of them count as a mismatch; isnan on both sides",
        {"nan": "never"},
    ),
    nan_matches_everything=(
        "nan matches everything: a comparison with nan is False, so ask what matches, and not what "
        "differs",
        {"nan": "everything"},
    ),
    what_differs_asked=(
        "nan matches everything: a comparison with nan is False, so ask what matches, and not what "
        "differs",
        {"nan": "what differs"},
    ),
    expected_nan_matches_everything=(
        "where nan is expected, everything passes; the actual value must be nan too",
        {"nan": "expected nan"},
    ),
    nan_as_zero=("nan counts as 0", {"nan": "zero"}),
    infinite_tolerance=(
        "where inf is expected, the tolerance is infinite and everything finite passes",
        {"infinite": "allow all"},
    ),
    infinities_never_match=(
        "inf - inf is nan, so two equal infinities count as a mismatch; compare them with ==",
        {"infinite": "never"},
    ),
    infinities_by_their_difference=(
        "infinities are compared by their difference: inf - inf is nan, and an infinite tolerance "
        "lets every number pass; compare them with ==",
        {"infinite": "by their difference"},
    ),
    infinities_of_any_sign=("inf matches -inf; the signs must agree", {"infinite": "any sign"}),
    in_float32=(
        "the values are compared in float32, which can't tell large whole numbers apart",
        {"dtype": "float32"},
    ),
    in_their_own_dtype=(
        "the difference is computed in the dtype of the tensors, and that of uint8 wraps around: "
        "convert to float64 first",
        {"dtype": "its own"},
    ),
    shapes_broadcast=(
        "shapes that differ are broadcast; they should be an error",
        {"shapes": "broadcast"},
    ),
    shapes_without_an_error=(
        "None, no mismatch, is returned for shapes that differ; they should be an error",
        {"shapes": "none"},
    ),
    last_mismatch=("this is the last mismatch; the first is asked for", {"which": "last"}),
    largest_difference=(
        "this is where the difference is largest; the first mismatch is asked for",
        {"which": "largest"},
    ),
    largest_excess=(
        "this is where the difference is largest; the first mismatch is asked for",
        {"which": "largest excess"},
    ),
    column_after_column=(
        "the first mismatch is looked for column after column; go row after row",
        {"which": "columns first"},
    ),
    flat_index=(
        "this is an index into the flattened tensor; one per axis is asked for",
        {"index": "flat"},
    ),
    flat_index_in_a_tuple=(
        "this is an index into the flattened tensor; one per axis is asked for",
        {"index": "flat, in a tuple"},
    ),
    empty_index_lost=(
        "of tensors without axes the index is (), which counts as false: ask how many mismatches "
        "there are, not whether the index is true",
        {"index": "or None"},
    ),
    a_tensor=("the index is a tensor; a tuple of ints is asked for", {"index": "tensor"}),
    a_list=("the index is a list; a tuple is asked for", {"index": "list"}),
    tensors_in_the_tuple=(
        "the tuple holds tensors; ints are asked for: tolist()",
        {"index": "tensors"},
    ),
    empty_tuple_for_none=(
        "() is returned where there is no mismatch; that is the index of a tensor without axes: "
        "return None",
        {"none": "()"},
    ),
)


# --- 8.9 next_token_loss ---


def loss_with(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    shift: str = "next",
    taken: str = "mean",
    values: str = "logits",
    rows: str = "flattened",
    result: str = "tensor",
) -> Any:
    """The loss of a language model."""
    logits = model(tokens)
    pairs: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "next": lambda: (logits[:, :-1], tokens[:, 1:]),
        "none": lambda: (logits, tokens),
        "none, last left out": lambda: (logits[:, :-1], tokens[:, :-1]),
        "none, first left out": lambda: (logits[:, 1:], tokens[:, 1:]),
        "before": lambda: (logits[:, 1:], tokens[:, :-1]),
        "twice": lambda: (logits[:, :-2], tokens[:, 2:]),
        "rolled": lambda: (logits, tokens.roll(-1, dims=1)),
        "padded": lambda: (logits, F.pad(tokens[:, 1:], (0, 1))),
        "padding ignored": lambda: (logits[:, :-1], tokens[:, 1:]),
        "last only": lambda: (logits[:, -2:-1], tokens[:, -1:]),
        "rows joined": lambda: (
            logits.flatten(0, 1)[:-1][None],
            tokens.flatten()[1:][None],
        ),
        "rows rolled": lambda: (logits[:-1], tokens[1:]),
    }
    if shift == "twice if long enough":
        shift = "twice" if tokens.size(1) > 2 else "next"
    x, y = pairs[shift]()
    if shift == "twice" and tokens.size(1) < 3:
        return logits.sum() * float("nan")
    if shift == "padding ignored":
        return F.cross_entropy(x.flatten(0, 1), y.flatten(), ignore_index=0)
    if shift == "rows rolled" and len(tokens) < 2:
        return logits.sum() * float("nan")
    flat = x.flatten(0, 1)
    if rows == "axes exchanged":
        flat = x.transpose(0, 1).flatten(0, 1)
    if rows == "classes mixed":
        flat = x.mT.reshape(-1, x.size(-1))
    targets = y.flatten()
    if values == "probabilities":
        flat = flat.softmax(-1)
    if values == "softmax over positions":
        flat = x.softmax(1).flatten(0, 1)
    losses = F.cross_entropy(flat, targets, reduction="none")
    if values == "brier":
        losses = (flat.softmax(-1) - F.one_hot(targets, flat.size(-1))).square().sum(-1)
    loss = losses.mean()
    if taken == "sum":
        loss = losses.sum()
    elif taken == "per row":
        loss = losses.sum() / len(tokens)
    elif taken == "by all positions":
        loss = losses.sum() / tokens.numel()
    elif taken == "bits":
        loss = losses.mean() / math.log(2)
    elif taken == "perplexity":
        loss = losses.mean().exp()
    elif taken == "each":
        return losses.view(y.shape)
    elif taken == "negative":
        loss = -losses.mean()
    if result == "number":
        return loss.item()
    if result == "detached":
        return loss.detach()
    return loss


LOSS = mistakes(
    loss_with,
    not_shifted=(
        "the model is asked for what it has just been shown; the page bug_clinic.md, section 5, "
        "shows what it learns from that",
        {"shift": "none"},
    ),
    not_shifted_last_left_out=(
        "both are cut in the same way, so each position is still asked for the token that it sees",
        {"shift": "none, last left out"},
    ),
    not_shifted_first_left_out=(
        "both are cut in the same way, so each position is still asked for the token that it sees",
        {"shift": "none, first left out"},
    ),
    shifted_backwards=(
        "the shift goes the other way: each position is asked for the token before it",
        {"shift": "before"},
    ),
    shifted_twice=(
        "the targets are shifted by two: each position is asked for the token after the next",
        {"shift": "twice"},
    ),
    shifted_twice_if_long_enough=(
        "the targets are shifted by two: each position is asked for the token after the next",
        {"shift": "twice if long enough"},
    ),
    zero_as_padding=(
        "token 0 is left out, as if it were padding; here it is a token like all others",
        {"shift": "padding ignored"},
    ),
    first_token_at_the_end=(
        "the last position is asked for the first token of its row, as roll moves it there; leave "
        "that position out",
        {"shift": "rolled"},
    ),
    padding_at_the_end=(
        "the last position is asked for a token 0 that isn't in the text; leave it out",
        {"shift": "padded"},
    ),
    last_prediction_alone=(
        "only the last prediction of each row counts; all of them should",
        {"shift": "last only"},
    ),
    rows_joined_first=(
        "the rows are joined before the shift, so the end of one row has to predict the start of "
        "the next; shift within each row",
        {"shift": "rows joined"},
    ),
    batches_shifted=(
        "the shift runs along the batch; the positions are axis 1",
        {"shift": "rows rolled"},
    ),
    probabilities_given=(
        "cross_entropy takes logits: it computes the softmax itself",
        {"values": "probabilities"},
    ),
    softmax_over_the_positions=(
        "a softmax runs over the positions; cross_entropy takes the logits as they are",
        {"values": "softmax over positions"},
    ),
    logits_in_another_order=(
        "the logits are flattened in another order than the targets",
        {"rows": "axes exchanged"},
    ),
    classes_mixed_with_positions=(
        "a reshape mixes tokens of the vocabulary with positions; flatten batch and positions",
        {"rows": "classes mixed"},
    ),
    a_sum=("this is the sum over all predictions; the mean is asked for", {"taken": "sum"}),
    a_sum_per_row=(
        "this is the sum over the positions of a row; the mean over all predictions is asked for",
        {"taken": "per row"},
    ),
    divided_by_all_positions=(
        "the sum is divided by B * T; there are B * (T - 1) predictions",
        {"taken": "by all positions"},
    ),
    in_bits=("this is in bits; the natural logarithm is asked for", {"taken": "bits"}),
    the_perplexity=("this is the perplexity; the loss is its logarithm", {"taken": "perplexity"}),
    a_loss_per_position=(
        "the losses are not averaged; one tensor without axes is asked for",
        {"taken": "each"},
    ),
    the_sign=(
        "the sign is wrong: a loss is minus the logarithm of a probability",
        {"taken": "negative"},
    ),
    a_number=(
        "this is a number, through which no gradient flows; leave out item()",
        {"result": "number"},
    ),
)


# --- 8.10 accumulated_update ---


def updated_with(
    model: nn.Module,
    optimizer: Optimizer,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    max_norm: float,
    *,
    divided: str = "each",
    zeroed: str = "at the end",
    step: str = "once",
    clipped: str = "norm",
    limit: str = "as given",
    used: str = "all",
    loss_is: str = "mean",
    norm_is: str = "before",
    order: str = "loss first",
) -> Any:
    """One step on several micro-batches."""
    n = len(micro_batches)
    parameters = [*model.parameters()]
    total, last, norm = 0.0, 0.0, 0.0
    each: list[float] = []
    parts = micro_batches[-1:] if used == "the last" else micro_batches
    parts = micro_batches[:1] if used == "the first" else parts
    factor = {"never": 1, "twice": n * n, "by the examples": n * len(micro_batches[0][1])}
    for x, y in parts:
        if zeroed == "in the loop":
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        (loss / (1 if divided == "after the clipping" else factor.get(divided, n))).backward()
        total += loss.item()
        last = loss.item()
        if clipped.startswith("each"):
            each.append(nn.utils.clip_grad_norm_(parameters, max_norm).item())
        if step == "each":
            optimizer.step()
        if step == "each by itself":
            each.append(nn.utils.clip_grad_norm_(parameters, max_norm).item())
            optimizer.step()
            optimizer.zero_grad()
    before = norm_of(parameters)
    if clipped == "each alone" or step == "each by itself":
        before = sum(each) / n if norm_is == "mean" else each[-1]
    max_norm = max_norm / n if limit == "divided" else max_norm
    if clipped == "value":
        nn.utils.clip_grad_value_(parameters, max_norm)
    elif clipped == "normalized":
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= max_norm / before
    elif clipped == "per parameter":
        for parameter in parameters:
            nn.utils.clip_grad_norm_([parameter], max_norm)
    elif clipped not in ("never", "each alone") and step != "each by itself":
        nn.utils.clip_grad_norm_(parameters, max_norm)
    norm = norm_of(parameters) if norm_is == "after" else before
    if norm_is == "after the step":
        norm = norm_of(parameters)
    if norm_is == "limit":
        norm = max_norm
    if norm_is == "squared":
        norm = before**2
    if norm_is == "divided":
        norm = before / n
    if divided == "after the clipping":
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= n
    if step == "once":
        optimizer.step()
    if zeroed != "never":
        optimizer.zero_grad()
    value = {"mean": total / n, "sum": total, "last": last, "divided twice": total / n / n}[loss_is]
    return (norm, value) if order == "norm first" else (value, norm)


def norm_of(parameters: Iterable[nn.Parameter]) -> float:
    """The norm of all gradients together."""
    squares = [one.grad.square().sum().item() for one in parameters if one.grad is not None]
    return math.sqrt(sum(squares))


UPDATED = mistakes(
    updated_with,
    not_divided=(
        "the more micro-batches, the longer the gradient; the page bug_clinic.md, section 6, shows "
        "how to see it",
        {"divided": "never"},
    ),
    divided_twice=(
        "the gradients are divided by the number of micro-batches twice",
        {"divided": "twice"},
    ),
    divided_by_the_examples=(
        "each loss is divided by the number of all examples, but it is a mean already: divide by "
        "the number of micro-batches",
        {"divided": "by the examples"},
    ),
    divided_after_the_clipping=(
        "the gradients are divided after the clipping, which has measured the sum: divide the "
        "losses before backward",
        {"divided": "after the clipping"},
    ),
    zeroed_in_the_loop_undivided=(
        "the gradients are zeroed before each backward, so only the last micro-batch counts",
        {"zeroed": "in the loop", "divided": "never"},
    ),
    zeroed_in_the_loop=(
        "the gradients are zeroed before each backward, so only the last micro-batch counts",
        {"zeroed": "in the loop"},
    ),
    never_zeroed=(
        "the gradients are still there after the step, and will be added to the next ones",
        {"zeroed": "never"},
    ),
    a_step_per_micro_batch=(
        "the optimizer takes a step after every micro-batch; one after the last is asked for",
        {"step": "each"},
    ),
    a_whole_update_per_micro_batch=(
        "the optimizer takes a step after every micro-batch; one after the last is asked for",
        {"step": "each by itself", "divided": "never"},
    ),
    a_whole_update_and_the_mean=(
        "the optimizer takes a step after every micro-batch; one after the last is asked for",
        {"step": "each by itself", "divided": "never", "norm_is": "mean"},
    ),
    no_step=("the optimizer takes no step", {"step": "never"}),
    each_clipped=(
        "the gradients are clipped after every micro-batch; clip their sum once",
        {"clipped": "each"},
    ),
    each_clipped_alone=(
        "the gradients are clipped after every micro-batch; clip their sum once",
        {"clipped": "each alone"},
    ),
    not_clipped=("the gradients are not clipped", {"clipped": "never"}),
    limit_divided=(
        "the gradient of the mean gets a limit of max_norm divided by the number of micro-batches, "
        "as where the division comes after the clipping: divide the losses before backward",
        {"limit": "divided"},
    ),
    norm_divided=(
        "the norm that is returned is divided; the gradients themselves should be",
        {"divided": "never", "norm_is": "divided"},
    ),
    clipped_by_value=(
        "each entry is clipped by itself, which changes the direction; clip the norm of all",
        {"clipped": "value"},
    ),
    always_normalized=(
        "the gradient always gets the norm max_norm; a shorter one should stay as it is",
        {"clipped": "normalized"},
    ),
    clipped_per_parameter=(
        "each parameter is clipped by itself; the norm is that of all together",
        {"clipped": "per parameter"},
    ),
    last_micro_batch_alone=("only the last micro-batch is used", {"used": "the last"}),
    first_micro_batch_alone=("only the first micro-batch is used", {"used": "the first"}),
    loss_summed=("the loss that is returned is a sum; the mean is asked for", {"loss_is": "sum"}),
    last_loss=("the loss that is returned is that of the last micro-batch", {"loss_is": "last"}),
    loss_divided_twice=(
        "the loss that is returned is divided by the number of micro-batches twice: what is added "
        "up is divided already",
        {"loss_is": "divided twice"},
    ),
    norm_after_the_clipping=(
        "this is the norm after the clipping; the one before is asked for",
        {"norm_is": "after"},
    ),
    norm_squared=("this is the square of the norm", {"norm_is": "squared"}),
    results_exchanged=("the two results are exchanged: first the loss", {"order": "norm first"}),
)


# --- 8.11 split_windows ---


def split_with(
    tokens: Tensor,
    length: int,
    stride: int,
    val_share: float,
    *,
    split: str = "tokens first",
    rounding: str = "down",
    every: str = "stride",
    end: str = "all",
    order: str = "training first",
    wide: int = 0,
) -> Any:
    """The windows of both parts."""
    n = len(tokens)
    n_val = int(n * val_share)
    if rounding == "up":
        n_val = n - int(n * (1 - val_share))
    elif rounding == "nearest":
        n_val = round(n * val_share)
    steps = {"one": 1, "length": length, "both": stride + length}
    step = steps.get(every, stride)
    size = length + wide
    windows = tokens.unfold(0, size, step) if n >= size else tokens[None]
    cut = n - n_val
    if split == "every k-th":
        k = round(1 / val_share)
        is_val = torch.arange(len(windows)) % k == k - 1
        train, val = windows[~is_val], windows[is_val]
    elif split == "windows":
        count = int(len(windows) * val_share)
        train, val = windows[: len(windows) - count], windows[len(windows) - count :]
    elif split == "shuffled":
        generator = torch.Generator().manual_seed(0)
        shuffled = windows[torch.randperm(len(windows), generator=generator)]
        count = int(len(windows) * val_share)
        train, val = shuffled[count:], shuffled[:count]
    elif split == "starts":
        starts = torch.arange(len(windows)) * step
        train, val = windows[starts < cut], windows[starts >= cut]
    elif split == "crossing left out":
        starts = torch.arange(len(windows)) * step
        train, val = windows[starts + size <= cut], windows[starts >= cut]
    elif split == "all for training":
        train, val = windows, tokens[cut:].unfold(0, size, step)
    elif split == "validation with what precedes":
        train = tokens[:cut].unfold(0, size, step)
        val = tokens[max(cut - length + 1, 0) :].unfold(0, size, step)
    elif split == "training by its starts":
        starts = torch.arange(len(windows)) * step
        train, val = windows[starts < cut], tokens[cut:].unfold(0, size, step)
    elif split == "a window before":
        train = tokens[:cut].unfold(0, size, step)
        val = tokens[max(cut - length, 0) :].unfold(0, size, step)
    elif split == "a gap":
        train = tokens[: max(cut - length, length)].unfold(0, size, step)
        val = tokens[cut:].unfold(0, size, step)
    elif split == "every k-th, without those beside":
        k = round(1 / val_share)
        starts = torch.arange(len(windows)) * step
        is_val = torch.arange(len(windows)) % k == k - 1
        is_near = (starts[:, None] - starts[is_val]).abs() < size
        train, val = windows[~is_near.any(dim=1)], windows[is_val]
    elif split == "first part":
        train, val = tokens[n_val:].unfold(0, size, step), tokens[:n_val].unfold(0, size, step)
    else:
        train, val = tokens[:cut].unfold(0, size, step), tokens[cut:].unfold(0, size, step)
    if every == "the length for validation":
        val = tokens[cut:].unfold(0, size, size)
    if end == "filled up":
        train, val = filled_up(tokens[:cut], size, step), filled_up(tokens[cut:], size, step)
    if end == "without one that just fits":
        train = train[: len(train) - ((cut - size) % step == 0)]
        val = val[: len(val) - ((n_val - size) % step == 0)]
    if end == "without the last":
        train, val = train[:-1], val[:-1]
    if end == "axes":
        train, val = train.mT, val.mT
    if end == "flattened":
        train, val = train.flatten(), val.flatten()
    return (val, train) if order == "validation first" else (train, val)


def filled_up(part: Tensor, size: int, step: int) -> Tensor:
    """The windows of a part, and one more for what is left at its end, with zeros."""
    rest = (len(part) - size) % step
    return F.pad(part, (0, step - rest if rest else 0)).unfold(0, size, step)


SPLIT = mistakes(
    split_with,
    every_kth_window=(
        "most tokens of the validation are in windows for training too; the page bug_clinic.md, "
        "section 7, shows what that does to the loss",
        {"split": "every k-th"},
    ),
    windows_split=(
        "the windows are split, and at the cut they overlap: split the tokens first",
        {"split": "windows"},
    ),
    windows_shuffled=(
        "the windows are shuffled before they are split, so they overlap with those of the other "
        "part: split the tokens first",
        {"split": "shuffled"},
    ),
    split_by_their_starts=(
        "windows that begin before the cut end behind it: they hold tokens of the validation",
        {"split": "starts"},
    ),
    crossing_ones_left_out=(
        "the windows of the validation begin at multiples of the stride of the whole text; they "
        "begin at every stride-th token of their own part",
        {"split": "crossing left out"},
    ),
    all_for_training=(
        "the training windows come from the whole text",
        {"split": "all for training"},
    ),
    validation_with_what_precedes=(
        "the validation begins with tokens of the training text, as a context for its first "
        "predictions; they are in both parts",
        {"split": "validation with what precedes"},
    ),
    training_by_its_starts=(
        "the last training windows begin before the cut and end behind it: they hold tokens of the "
        "validation",
        {"split": "training by its starts"},
    ),
    validation_a_window_before=(
        "the validation begins with tokens of the training text, as a context for its first "
        "predictions; they are in both parts",
        {"split": "a window before"},
    ),
    gap_before_the_cut=(
        "the last tokens before the cut are left out; all that aren't for validation are for "
        "training",
        {"split": "a gap"},
    ),
    windows_from_all_over=(
        "the windows for validation come from all over the text; its last int(n * val_share) "
        "tokens are asked for",
        {"split": "every k-th, without those beside"},
    ),
    first_part_for_validation=(
        "the first part of the text is for validation; the last should be",
        {"split": "first part"},
    ),
    training_rounded_down=(
        "the size of the training part is rounded down; that of the validation should be: "
        "int(n * val_share)",
        {"rounding": "up"},
    ),
    rounded_to_the_nearest=(
        "the size of the validation is rounded to the nearest whole number; int rounds down",
        {"rounding": "nearest"},
    ),
    stride_of_one=("a window begins at every token; one per stride is asked for", {"every": "one"}),
    stride_of_the_length=(
        "the windows don't overlap: they begin at every stride-th token, not at every length-th",
        {"every": "length"},
    ),
    length_for_validation=(
        "the stride is used for training only; validation has the same",
        {"every": "the length for validation"},
    ),
    rest_filled_up=(
        "the rest at the end of a part is filled up; a window ends within its part, and a rest is "
        "left out",
        {"end": "filled up"},
    ),
    one_that_fits_missing=(
        "the last window of each part is missing; one that ends with its part still fits",
        {"end": "without one that just fits"},
    ),
    gaps_between_the_windows=(
        "the stride is counted from the end of a window; it is counted from its beginning",
        {"every": "both"},
    ),
    last_windows_missing=(
        "the last window of each part is missing; one that ends with its part still fits",
        {"end": "without the last"},
    ),
    axes_exchanged=("rows and columns are exchanged: one window per row", {"end": "axes"}),
    one_token_more=("the windows have one token too many", {"wide": 1}),
    results_exchanged=(
        "the two results are exchanged: first training",
        {"order": "validation first"},
    ),
)


# --- 8.12 attend_cached ---


def attended_with(
    pieces: Sequence[tuple[Tensor, Tensor, Tensor]],
    *,
    advance: str = "by the piece",
    mask: str = "causal",
    scale: str = "d_head",
    seen: str = "all",
    values_at: str = "their place",
    axis: int = -1,
    result: str = "all",
    stored: str = "all",
) -> Tensor:
    """Attention with a cache."""
    total = sum(len(k) for _, k, _ in pieces)
    keys = torch.zeros(total, pieces[0][1].size(-1))
    values = torch.zeros(total, pieces[0][2].size(-1))
    length, outputs = 0, []
    for q, k, v in pieces:
        T = len(k)
        length = min(length, total - T)
        end = length + T
        keys[length:end] = k if stored != "values only" else keys[length:end]
        place = 0 if values_at == "the beginning" else length
        values[place : place + T] = v
        if values_at == "nowhere":
            values[length:end] = 0
        first = length
        if mask == "from 0":
            first = 0
        elif mask == "one late":
            first = length + 1
        elif mask == "one early":
            first = length - 1
        last = total if seen == "the whole cache" else end
        rows = torch.arange(first, first + T)[:, None]
        allowed = torch.arange(last) <= rows
        if seen == "the whole cache":
            allowed = allowed | (torch.arange(last) >= end)
        if mask == "none":
            allowed = torch.ones_like(allowed)
        if mask == "future":
            allowed = torch.arange(last) >= rows
        if mask == "own piece":
            allowed = allowed & (torch.arange(last) >= length)
        if mask == "past only":
            allowed = torch.arange(last) < rows.clamp(min=1)
        if mask == "whole past":
            allowed = (torch.arange(last) < length) | allowed
        divisor = {
            "d_head": math.sqrt(q.size(-1)),
            "none": 1.0,
            "d_v": math.sqrt(v.size(-1)),
            "without root": float(q.size(-1)),
            "length": math.sqrt(end),
        }[scale]
        scores = q @ keys[:last].mT / divisor
        if mask == "zeros":
            weights = (scores * allowed).softmax(dim=axis)
        elif mask == "after the softmax":
            weights = scores.softmax(dim=axis) * allowed
        else:
            weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=axis)
        outputs.append(weights.nan_to_num() @ values[:last])
        length += {"by the piece": T, "never": 0, "by one": 1, "by two": T + 1}.get(advance, 0)
        if advance == "to the first":
            length = len(pieces[0][1])
        elif advance == "to the piece":
            length = T
        elif advance == "one less":
            length = end - 1
    if result == "last piece":
        return outputs[-1]
    if result == "last rows":
        return torch.stack([one[-1] for one in outputs])
    if result == "reversed":
        return torch.cat(outputs[::-1])
    return torch.cat(outputs)


ATTENDED = mistakes(
    attended_with,
    never_advanced=(
        "each piece attends to itself alone, as if it were the first; the page bug_clinic.md, "
        "section 8, shows how to see it",
        {"advance": "never"},
    ),
    advanced_by_one=(
        "the cache is advanced by one per piece; a prompt has more tokens than one",
        {"advance": "by one"},
    ),
    advanced_to_the_first_piece=(
        "after the first piece the cache isn't advanced any more",
        {"advance": "to the first"},
    ),
    advanced_to_the_piece=(
        "length becomes the size of the last piece; it grows by that",
        {"advance": "to the piece"},
    ),
    advanced_by_one_less=(
        "the cache is advanced by one token too few, and the next piece is written over the last "
        "token",
        {"advance": "one less"},
    ),
    rows_counted_from_zero=(
        "the queries of every piece are counted from 0 in the mask; they begin at length",
        {"mask": "from 0"},
    ),
    next_token_visible=(
        "each query sees one token of the future",
        {"mask": "one late"},
    ),
    empty_places_seen=(
        "the places of the cache that are still empty get a share: a key of zeros has the score 0, "
        "not -inf; end at the last token",
        {"seen": "the whole cache"},
    ),
    own_token_hidden=("no query sees the key of its own token", {"mask": "past only"}),
    no_mask=(
        "nothing is masked, so the tokens of a piece see those after them",
        {"mask": "none"},
    ),
    mask_of_zeros=(
        "masked scores become 0, and exp(0) = 1 still gets a share; use -inf",
        {"mask": "zeros"},
    ),
    masked_after_the_softmax=(
        "the weights are masked after the softmax, so they don't sum to 1",
        {"mask": "after the softmax"},
    ),
    not_scaled=("the division by the square root of d_head is missing", {"scale": "none"}),
    scaled_by_d_v=(
        "the scores are divided by the square root of d_v, not d_head",
        {"scale": "d_v"},
    ),
    root_missing=(
        "the scores are divided by d_head, not by its square root",
        {"scale": "without root"},
    ),
    softmax_over_the_queries=(
        "the softmax runs over the queries; each query needs weights that sum to 1",
        {"axis": 0},
    ),
    values_at_the_beginning=(
        "the keys go to their places, and the values always to the beginning",
        {"values_at": "the beginning"},
    ),
    last_piece_alone=(
        "only the outputs of the last piece are returned",
        {"result": "last piece"},
    ),
    last_row_of_each_piece=(
        "only the last output of each piece is returned",
        {"result": "last rows"},
    ),
    pieces_reversed=("the pieces come back in reverse order", {"result": "reversed"}),
)


# --- 8.13 speedup ---


def speedup_with(
    shares: Sequence[float],
    times: Sequence[float],
    *,
    parts: str = "divided",
    rest: str = "as it is",
    result: str = "times faster",
    which: str = "all",
    nothing: str = "inf",
) -> float:
    """How much faster a program becomes."""
    if rest == "shared out" and sum(shares) > 0:
        shares = [share / sum(shares) for share in shares]
    pairs = [*zip(shares, times, strict=True)]
    if which == "first":
        pairs = pairs[:1]
    elif which == "largest" and pairs:
        pairs = [max(pairs)]
    left = max(0.0, 1 - sum(share for share, _ in pairs))
    if rest == "forgotten":
        left = 0.0
    elif rest == "all":
        left = 1.0
    if parts == "inf at once" and any(math.isinf(factor) for _, factor in pairs):
        return math.inf
    if parts == "largest gain":
        return max((speedup_with([share], [factor]) for share, factor in pairs), default=1.0)
    if parts == "speeds averaged":
        return sum(share * factor for share, factor in pairs) + left
    if parts == "each by itself":
        gains = [1 / (1 - s + s / t) if 1 - s + s / t > 0 else math.inf for s, t in pairs]
        return math.prod(gains)
    if parts == "gains added":
        gains = [1 / (1 - s + s / t) - 1 if 1 - s + s / t > 0 else math.inf for s, t in pairs]
        return 1 + sum(gains)
    if parts == "product of the times":
        return math.prod(factor for _, factor in pairs)
    if parts == "mean of the times":
        return sum(factor for _, factor in pairs) / len(pairs) if pairs else 1.0
    if parts == "largest of the times":
        return max((factor for _, factor in pairs), default=1.0)
    if parts == "powers":
        return math.prod(factor**share for share, factor in pairs)
    for share, factor in pairs:
        if parts == "saved twice":
            left += share * (1 / factor) ** 2
        elif parts == "multiplied":
            left += share * factor
        elif parts == "inf ignored" and math.isinf(factor):
            left += share
        elif parts == "never slower":
            left += share / max(factor, 1.0)
        elif parts == "one more":
            left += share / (1 + factor)
        else:
            left += share / factor
    if left <= 1e-15:
        return 1 / 0.0 if nothing == "error" else {"inf": math.inf, "zero": 0.0}[nothing]
    return {
        "times faster": 1 / left,
        "time left": left,
        "time saved": 1 - left,
        "more": 1 / left - 1,
        "percent": 100 * (1 / left - 1),
        "percent left": 100 * left,
        "rounded": round(1 / left, 2),
    }[result]


SPEEDUP = mistakes(
    speedup_with,
    speeds_averaged=(
        "the speeds are averaged; it is the times that add up: share / times",
        {"parts": "speeds averaged"},
    ),
    gains_multiplied=(
        "the speed-ups of the parts are computed one by one and multiplied; their times add up",
        {"parts": "each by itself"},
    ),
    gains_added=(
        "the speed-ups of the parts are computed one by one and added; their times add up",
        {"parts": "gains added"},
    ),
    times_multiplied=(
        "the factors are multiplied, as if each part were the whole",
        {"parts": "product of the times"},
    ),
    factors_averaged=("the shares are ignored", {"parts": "mean of the times"}),
    largest_factor=(
        "the largest factor is returned; a part can't make the whole that much faster",
        {"parts": "largest of the times"},
    ),
    geometric_mean=(
        "this is a geometric mean of the factors; the times of the parts add up",
        {"parts": "powers"},
    ),
    shares_multiplied=(
        "each share is multiplied by its factor; a part that is 2 times faster takes half the time",
        {"parts": "multiplied"},
    ),
    one_plus_the_factor=(
        "each share is divided by 1 + its factor; 2 times faster means half the time",
        {"parts": "one more"},
    ),
    infinity_ignored=(
        "a part with math.inf stays as it is; it should disappear",
        {"parts": "inf ignored"},
    ),
    infinite_at_once=(
        "one part that disappears makes the whole infinitely fast; the others still take their "
        "time",
        {"parts": "inf at once"},
    ),
    never_slower=(
        "a part with a factor below 1 stays as it is; it should become slower",
        {"parts": "never slower"},
    ),
    largest_gain=(
        "only the part that gains most is counted; the times of all parts add up",
        {"parts": "largest gain"},
    ),
    rest_shared_out=(
        "the shares are divided by their sum, so that nothing is left for the rest",
        {"rest": "shared out"},
    ),
    rounded=("the result is rounded; return it as it is", {"result": "rounded"}),
    rest_forgotten=(
        "the rest is forgotten: what the shares leave of 1 takes its time too",
        {"rest": "forgotten"},
    ),
    rest_is_everything=(
        "the rest counts as 1; it is what the shares leave of 1",
        {"rest": "all"},
    ),
    first_part_alone=("only the first part is used", {"which": "first"}),
    largest_part_alone=("only the largest part is used", {"which": "largest"}),
    time_left=(
        "this is the time that is left, as a fraction; the speed-up is 1 divided by that",
        {"result": "time left"},
    ),
    time_saved=("this is the time that is saved, as a fraction", {"result": "time saved"}),
    gain_only=(
        "1 is subtracted: a program as fast as before is 1 times as fast",
        {"result": "more"},
    ),
    in_percent=("this is a gain in percent; a factor is asked for", {"result": "percent"}),
    percent_left=(
        "this is the time that is left, in percent; the speed-up is 1 divided by a fraction",
        {"result": "percent left"},
    ),
    division_by_zero=(
        "if nothing is left of the time, the division by it fails; return math.inf then",
        {"nothing": "error"},
    ),
    zero_for_nothing=(
        "if nothing is left, 0 is returned; the speed-up is infinite then",
        {"nothing": "zero"},
    ),
)


# --- 8.14 read_profiles ---

LESSONS = "training, the lessons' code in float32"
FUSED = "training, fused engine in bfloat16"
MODULES = "generation with the modules and cache"
FAST = "generation with the fast decoder"


def profiles_read_with(
    *, training: bool = False, generation: bool = False, crossed: str = ""
) -> dict[str, str]:
    """The letters, with those of some programs exchanged."""
    letters = {LESSONS: "C", FUSED: "A", MODULES: "D", FAST: "B"}
    pairs = [(LESSONS, FUSED)] * training + [(MODULES, FAST)] * generation
    pairs += {
        "slow ones": [(LESSONS, MODULES)],
        "slow and fast": [(LESSONS, FAST)],
        "fast and slow": [(FUSED, MODULES)],
        "fast ones": [(FUSED, FAST)],
        "slow ones, fast ones": [(LESSONS, MODULES), (FUSED, FAST)],
        "each with its opposite": [(LESSONS, FAST), (FUSED, MODULES)],
    }.get(crossed, [])
    for one, other in pairs:
        letters[one], letters[other] = letters[other], letters[one]
    return letters


CROSSED = "training and generation are exchanged: only training has a backward pass"

READ = mistakes(
    profiles_read_with,
    training_exchanged=(
        "the two of training are exchanged: bfloat16 makes the products faster, and then all that "
        "stays as it is, such as Python, takes a larger share",
        {"training": True},
    ),
    generation_exchanged=(
        "the two of generation are exchanged: the fast decoder has fewer norms, elementwise "
        "operations and copies beside the same products",
        {"generation": True},
    ),
    slow_ones_exchanged=(CROSSED, {"crossed": "slow ones"}),
    slow_training_and_fast_generation=(CROSSED, {"crossed": "slow and fast"}),
    fast_training_and_slow_generation=(CROSSED, {"crossed": "fast and slow"}),
    fast_ones_exchanged=(CROSSED, {"crossed": "fast ones"}),
    both_exchanged=(CROSSED, {"crossed": "slow ones, fast ones"}),
    each_with_its_opposite=(CROSSED, {"crossed": "each with its opposite"}),
)


# --- 8.15 quantize_rows, int8_linear ---


def quantized_with(
    weight: Tensor,
    *,
    per: str = "row",
    limit: float = 127.0,
    size: str = "absolute",
    rounding: str = "nearest",
    codes: torch.dtype = torch.int8,
    scales: str = "(d_out,)",
    zeros: str = "one",
    precision: str = "float32",
    order: str = "q first",
    returned: str = "codes",
    overflow: str = "-127",
) -> Any:
    """Weights in 8 bits, and their scales."""
    given = weight
    weight = weight.float() if precision != "its own" else weight
    by_size = {
        "absolute": weight.abs,
        "largest": lambda: weight,
        "smallest": lambda: -weight,
    }.get(size, weight.abs)()
    if size == "range":
        largest = (weight.amax(-1) - weight.amin(-1)) / 2
    elif size == "mean":
        largest = weight.abs().mean(-1)
    elif size == "spread":
        largest = weight.std(-1, correction=0)
    elif per == "matrix":
        largest = by_size.amax().expand(weight.size(0))
    else:
        largest = by_size.amax(-1)
    if per == "column":
        largest = weight.abs().amax(0)
    scale = largest / limit
    if zeros == "one":
        scale = torch.where(largest != 0, scale, torch.ones_like(scale))
    elif zeros == "small":
        scale = torch.where(largest != 0, scale, torch.full_like(scale, 1e-8))
    divisor = scale if per == "column" else scale[:, None]
    ratio = weight / divisor
    rounded = {
        "nearest": ratio.round,
        "cut": ratio.trunc,
        "floor": ratio.floor,
        "ceil": ratio.ceil,
    }[rounding]()
    if zeros == "zero":
        rounded = rounded.nan_to_num()
    if codes == torch.uint8:
        rounded = rounded + 128
    elif overflow == "wrapped":
        rounded = (rounded.nan_to_num() + 128) % 256 - 128
    else:
        rounded = rounded.clamp(float(overflow), 127)
    q = rounded.to(codes)
    if returned == "weights":
        return (q.float() * divisor).float(), scale
    if scales == "inverse":
        scale = 1 / scale
    elif scales == "(d_out, 1)":
        scale = scale[:, None]
    elif scales == "largest":
        scale = torch.where(largest != 0, largest, torch.ones_like(largest))
    elif scales == "float64":
        scale = scale.double()
    elif scales == "float32":
        scale = scale.float()
    elif scales == "its dtype":
        scale = scale.to(given.dtype)
    return (scale, q) if order == "scale first" else (q, scale)


QUANTIZED = mistakes(
    quantized_with,
    one_scale_for_all=(
        "there is one scale for the whole matrix; each row has its own",
        {"per": "matrix"},
    ),
    divided_by_128=(
        "the largest value is divided by 128; with 127, the largest code is 127",
        {"limit": 128.0},
    ),
    divided_by_128_down_to_it=(
        "the largest value is divided by 128; with 127, the largest code is 127",
        {"limit": 128.0, "overflow": "-128"},
    ),
    divided_by_255=(
        "the largest value is divided by 255, so codes above 127 are cut off; int8 ends at 127",
        {"limit": 255.0},
    ),
    largest_without_its_sign=(
        "the largest value is taken, and a negative one may be larger: take absolute values",
        {"size": "largest"},
    ),
    largest_without_its_sign_to_128=(
        "the largest value is taken, and a negative one may be larger: take absolute values",
        {"size": "largest", "overflow": "-128"},
    ),
    largest_without_its_sign_wrapped=(
        "the largest value is taken, and a negative one may be larger: take absolute values",
        {"size": "largest", "overflow": "wrapped"},
    ),
    half_of_the_range=(
        "the scale comes from the distance between the smallest and the largest value, but no zero "
        "point goes with it",
        {"size": "range"},
    ),
    mean_in_place_of_the_largest=(
        "the scale comes from the mean of the absolute values; all above it are cut off",
        {"size": "mean"},
    ),
    cut_not_rounded=(
        "the conversion to int8 cuts the digits off: round first",
        {"rounding": "cut"},
    ),
    rounded_down=(
        "the values are rounded down; to the nearest whole number is asked for",
        {"rounding": "floor"},
    ),
    codes_as_floats=("the codes are still floats; int8 is asked for", {"codes": torch.float32}),
    codes_as_int32=("the codes are int32, which saves nothing: int8", {"codes": torch.int32}),
    codes_with_an_offset=(
        "the codes are uint8, from 1 to 255; int8 from -127 to 127 is asked for",
        {"codes": torch.uint8},
    ),
    scale_upside_down=(
        "the scale is upside down: a weight is its code times the scale",
        {"scales": "inverse"},
    ),
    scale_with_an_axis=(
        "the scales have an axis of size 1 at the end; (d_out,) is asked for",
        {"scales": "(d_out, 1)"},
    ),
    largest_returned=(
        "the largest values are returned as scales; divide them by 127",
        {"scales": "largest"},
    ),
    zero_scale_for_zeros=(
        "a row of zeros has scale 0, or a tiny one; give it scale 1",
        {"zeros": "zero"},
    ),
    small_scale_for_zeros=(
        "a row of zeros has scale 0, or a tiny one; give it scale 1",
        {"zeros": "small"},
    ),
    in_half_precision=(
        "half precision is quantized in half precision; convert to float32 first",
        {"precision": "its own"},
    ),
    in_half_precision_but_the_scale=(
        "half precision is quantized in half precision; convert to float32 first",
        {"precision": "its own", "scales": "float32"},
    ),
    scale_in_half_precision=(
        "the scales of half precision are in half precision; float32 is asked for",
        {"scales": "its dtype"},
    ),
    results_exchanged=("the two results are exchanged: first the codes", {"order": "scale first"}),
    weights_returned=(
        "the rounded weights are returned as floats; the codes in int8 are asked for",
        {"returned": "weights"},
    ),
)


def scale_per_column(weight: Tensor) -> Any:
    """there is one scale per column; each row has its own"""
    return quantized_with(weight, per="column")


def linear_with(
    x: Tensor,
    q: Tensor,
    scale: Tensor,
    *,
    scaled: str = "outputs",
    product: str = "x q^T",
    inputs: str = "as they are",
    result: str = "outputs",
) -> Tensor:
    """A linear layer with weights in 8 bits."""
    weight = q.float()
    if inputs == "rounded":
        x = x.round()
    elif inputs == "cut":
        x = x.trunc()
    if product == "mm":
        return torch.mm(x, weight.t()) * scale
    if scaled == "columns":
        return x @ (weight * scale).mT
    if product == "x q":
        out = x @ (weight if q.size(0) == q.size(1) else weight.mT)
    elif product == "codes by 127":
        out = x @ weight.mT / 127
    else:
        out = x @ weight.mT
    if scaled == "outputs":
        out = out * scale
    elif scaled == "divided":
        out = out / scale
    elif scaled == "squared":
        out = out * scale**2
    elif scaled == "the first":
        out = out * scale[0]
    elif scaled == "mean":
        out = out * scale.mean()
    elif scaled == "largest":
        out = out * scale.max()
    elif scaled == "reversed":
        out = out * scale.flip(0)
    elif scaled == "a column":
        out = out * scale[:, None]
    elif scaled == "inputs":
        ours = x * scale if q.size(0) == q.size(1) else x
        out = ours @ weight.mT * (1.0 if q.size(0) == q.size(1) else scale)
    if result == "half":
        return out.bfloat16()
    if result == "double":
        return out.double()
    if result == "rounded":
        return out.round()
    return out


LINEAR = mistakes(
    linear_with,
    scale_forgotten=("the scales are forgotten", {"scaled": "never"}),
    divided_by_the_scale=("the scales divide; they should multiply", {"scaled": "divided"}),
    scaled_twice=("the scales are multiplied in twice", {"scaled": "squared"}),
    first_scale_for_all=(
        "all outputs have the first scale; each has its own",
        {"scaled": "the first"},
    ),
    inputs_scaled=(
        "the scales multiply the inputs; they belong to the rows of q, that is to the outputs",
        {"scaled": "inputs"},
    ),
    scales_as_a_column=(
        "the scales are made a column, as in quantize_rows; here they belong to the last axis of "
        "the outputs",
        {"scaled": "a column"},
    ),
    columns_scaled=(
        "the scales multiply the inputs; they belong to the rows of q, that is to the outputs",
        {"scaled": "columns"},
    ),
    matrices_only=(
        "torch.mm takes matrices only; @ takes any leading axes",
        {"product": "mm"},
    ),
    divided_by_127=(
        "the outputs are divided by 127; that is in the scales already",
        {"product": "codes by 127"},
    ),
    not_transposed=("q has to be transposed: its rows belong to the outputs", {"product": "x q"}),
    inputs_cut=(
        "the inputs are converted to whole numbers, which cuts digits off; convert q to float",
        {"inputs": "cut"},
    ),
    outputs_in_float64=("the outputs are float64; float32 is asked for", {"result": "double"}),
)


# --- 8.16 block_from_meta ---

META = {  # ours by Meta's name
    "attention_norm.weight": "attention_norm.weight",
    "attention.wq.weight": "attention.q_proj.weight",
    "attention.wk.weight": "attention.k_proj.weight",
    "attention.wv.weight": "attention.v_proj.weight",
    "attention.wo.weight": "attention.out_proj.weight",
    "ffn_norm.weight": "feed_forward_norm.weight",
    "feed_forward.w1.weight": "feed_forward.gate_proj.weight",
    "feed_forward.w2.weight": "feed_forward.down_proj.weight",
    "feed_forward.w3.weight": "feed_forward.up_proj.weight",
}


EXCHANGED = {  # in the place of a tensor of Meta's: another one
    "norms": {"attention_norm": "ffn_norm", "ffn_norm": "attention_norm"},
    "queries and keys": {"attention.wq": "attention.wk", "attention.wk": "attention.wq"},
    "keys and values": {"attention.wk": "attention.wv", "attention.wv": "attention.wk"},
    "gate and up": {"feed_forward.w1": "feed_forward.w3", "feed_forward.w3": "feed_forward.w1"},
    "up and down": {"feed_forward.w2": "feed_forward.w3", "feed_forward.w3": "feed_forward.w2"},
}


def block_with(
    theirs: Mapping[str, Tensor],
    n_heads: int,
    n_kv_heads: int,
    *,
    unknown: str = "refused",
    missing: str = "refused",
    message: str = "the name",
    prefix: str = "kept",
    moved: tuple[str, ...] = ("wq", "wk"),
    way: str = "to halves",
    axis: str = "rows",
    heads_of_keys: str = "n_kv_heads",
    heads_of_queries: str = "n_heads",
    output: str = "kept",
    repeated: str = "",
    scaled: str = "",
    norms: str = "",
    attention: str = "",
    feed_forward: str = "",
    transposed: tuple[str, ...] = (),
    names: str = "ours",
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """The tensors of a block by other names, some of them in another order."""
    if prefix == "cut":
        theirs = {re.sub(r"^layers\.\d+\.", "", name): theirs[name] for name in theirs}
    refuse_names(theirs, unknown, missing, message)
    block: dict[str, Any] = {name: theirs[name] for name in META if name in theirs}
    if missing == "None":
        block = {name: theirs.get(name) for name in META}
    counts = counts_of_heads(theirs, n_heads, n_kv_heads)
    heads = {"wq": heads_of_queries, "wk": heads_of_keys, "wv": "n_kv_heads", "wo": "n_heads"}
    for part in moved:
        name = f"attention.{part.removesuffix(' if square')}.weight"
        is_left = part.endswith("square") and name in block and len({*block[name].shape}) > 1
        if name in block and not is_left:
            count = counts[heads[part.removesuffix(" if square")]]
            block[name] = reordered(block[name], count, way, axis)
    name = "attention.wo.weight"
    if output == "columns" and name in block:
        block[name] = reordered(block[name], n_heads, way, "columns")
    for name in ("attention.wk.weight", "attention.wv.weight"):
        if repeated and name in block:
            block[name] = with_copied_heads(block[name], n_heads, n_kv_heads, repeated)
    if scaled:
        block = with_other_values(block, scaled, n_heads)
    for exchange in (norms, attention, feed_forward):
        block = exchanged(block, EXCHANGED.get(exchange, {}))
    for name, tensor in block.items():
        if name.split(".")[1] in transposed:
            block[name] = tensor.mT
    if dtype:
        block = {name: tensor.to(dtype) for name, tensor in block.items()}
    return renamed(block, theirs, names, unknown)


def refuse_names(theirs: Mapping[str, Tensor], unknown: str, missing: str, message: str) -> None:
    """Raise an error if names are missing or unknown."""
    lost = [name for name in META if name not in theirs]
    extra = [name for name in theirs if name not in META]
    if message == "assert" and (lost or extra):
        raise AssertionError
    if lost and missing in ("refused", "nameless"):
        texts = {"the name": lost[0], "our name": META[lost[0]]}
        raise ValueError(texts.get(message, "") if missing == "refused" else "")
    if lost and missing == "KeyError":
        raise KeyError(lost[0])
    if extra and unknown in ("refused", "nameless"):
        is_named = unknown == "refused" and message != "none"
        raise ValueError(extra[0] if is_named else "")
    if extra and unknown == "KeyError":
        raise KeyError(extra[0])


def counts_of_heads(theirs: Mapping[str, Tensor], n_heads: int, n_kv_heads: int) -> dict[str, int]:
    """What a matrix may be divided into; below zero: by hand, where odd widths are no error."""
    counts = {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "one": 1}
    counts |= {"by hand": -n_heads, "n_heads // n_kv_heads": n_heads // n_kv_heads}
    if "attention.wq.weight" in theirs:
        counts["d_head"] = len(theirs["attention.wq.weight"]) // n_heads
    return counts


def with_other_values(block: dict[str, Any], scaled: str, n_heads: int) -> dict[str, Any]:
    """Norms plus 1, or queries divided by the square root of d_head."""
    if scaled == "norms":
        return {name: one + 1 if "norm" in name else one for name, one in block.items()}
    queries = block.get("attention.wq.weight")
    if queries is None:
        return block
    return block | {"attention.wq.weight": queries / math.sqrt(len(queries) // n_heads)}


def reordered(weight: Tensor, n_heads: int, way: str, axis: str) -> Tensor:
    """The rows or columns of each head in another order."""
    if axis == "columns":
        return reordered(weight.mT, n_heads, way, "rows").mT
    if n_heads < 0 or way == "odd first":  # by hand: heads of an odd width are no error
        starts = (1, 0) if way == "odd first" else (0, 1)
        heads = weight.chunk(abs(n_heads))
        return torch.cat([head[start::2] for head in heads for start in starts])
    if way == "back":
        return halves_to_interleaved(weight, n_heads)
    moved = interleaved_to_halves(weight, n_heads)
    return interleaved_to_halves(moved, n_heads) if way == "twice" else moved


def with_copied_heads(weight: Tensor, n_heads: int, n_kv_heads: int, repeated: str) -> Tensor:
    """As many heads of keys or values as there are of queries."""
    order = torch.arange(n_heads)
    order = order % n_kv_heads if repeated == "in turn" else order * n_kv_heads // n_heads
    return weight.unflatten(0, (n_kv_heads, -1))[order].flatten(0, 1)


def exchanged(block: dict[str, Any], sources: Mapping[str, str]) -> dict[str, Any]:
    """Some tensors in the place of others."""
    found = {name: sources.get(name.removesuffix(".weight"), "") for name in block}
    return {name: block.get(f"{found[name]}.weight", block[name]) for name in block}


def renamed(
    block: dict[str, Any], theirs: Mapping[str, Tensor], names: str, unknown: str
) -> dict[str, Any]:
    """The tensors by our names, or by others."""
    spelled: dict[str, Callable[[str], str]] = {
        "theirs": lambda name: name,
        "short": lambda name: META[name].removesuffix(".weight"),
        "long": lambda name: f"blocks.0.{META[name]}",
    }
    our_name = spelled.get(names, lambda name: META[name])
    result = {our_name(name): tensor for name, tensor in block.items()}
    if unknown == "kept":
        result |= {name: theirs[name] for name in theirs if name not in META}
    return {**theirs, **result} if names == "both" else result


CONVERTED = mistakes(
    block_with,
    nothing_moved=(
        "names alone are changed; rotary positions turn neighbours there and halves here, so "
        "queries and keys need another order of rows",
        {"moved": ()},
    ),
    queries_alone=(
        "only the queries are moved; a score multiplies feature by feature, so the keys need the "
        "same order",
        {"moved": ("wq",)},
    ),
    keys_alone=(
        "only the keys are moved; a score multiplies feature by feature, so the queries need the "
        "same order",
        {"moved": ("wk",)},
    ),
    values_too=(
        "the values are moved as well; rotary positions don't turn them, and out_proj expects them "
        "in their old order",
        {"moved": ("wq", "wk", "wv")},
    ),
    output_too=(
        "the output projection is moved as well; its rows are features of the residual stream, "
        "which is not turned",
        {"moved": ("wq", "wk", "wo")},
    ),
    all_of_attention=(
        "all four matrices of attention are moved; only what rotary positions turn needs it: "
        "queries and keys",
        {"moved": ("wq", "wk", "wv", "wo")},
    ),
    columns_of_the_output_too=(
        "the columns of out_proj are moved as well; they belong to the values, which keep their "
        "order",
        {"output": "columns"},
    ),
    values_there_and_back=(
        "the values are moved as well, and the columns of out_proj undo it; the block computes the "
        "same, but no row is to be moved that need not be",
        {"moved": ("wq", "wk", "wv"), "output": "columns"},
    ),
    keys_in_n_heads=(
        "the rows of the keys are divided into n_heads heads; keys have n_kv_heads",
        {"heads_of_keys": "n_heads"},
    ),
    keys_in_n_heads_by_hand=(
        "the rows of the keys are divided into n_heads heads; keys have n_kv_heads",
        {"heads_of_keys": "by hand"},
    ),
    keys_in_groups=(
        "the rows of the keys are divided into n_heads // n_kv_heads heads; that is how many query "
        "heads share a head of keys, and the keys have n_kv_heads",
        {"heads_of_keys": "n_heads // n_kv_heads"},
    ),
    queries_in_n_kv_heads=(
        "the rows of the queries are divided into n_kv_heads heads; queries have n_heads",
        {"heads_of_queries": "n_kv_heads"},
    ),
    counts_exchanged=(
        "queries are divided into n_kv_heads heads and keys into n_heads; it is the other way "
        "round",
        {"heads_of_queries": "n_kv_heads", "heads_of_keys": "n_heads"},
    ),
    keys_in_one_head=(
        "all rows of the keys are taken for one head; each of the n_kv_heads keeps its own rows",
        {"heads_of_keys": "one"},
    ),
    queries_in_one_head=(
        "all rows of the queries are taken for one head; each of the n_heads keeps its own rows",
        {"heads_of_queries": "one"},
    ),
    all_in_one_head=(
        "the rows are moved across the whole matrix, as if it were one head; each head keeps its "
        "own rows",
        {"heads_of_queries": "one", "heads_of_keys": "one"},
    ),
    d_head_for_heads=(
        "the width of a head is given where the number of heads is asked for",
        {"heads_of_queries": "d_head", "heads_of_keys": "d_head"},
    ),
    the_other_way=(
        "this goes from halves to neighbours; Meta's files have neighbours, ours need halves",
        {"way": "back"},
    ),
    moved_twice=("the rows are moved twice; once is enough", {"way": "twice"}),
    odd_rows_first=(
        "the odd rows of a head come first; the first of each pair belongs into the first half",
        {"way": "odd first"},
    ),
    columns_moved=(
        "the columns of queries and keys are moved; heads are made of rows, the outputs",
        {"axis": "columns"},
    ),
    heads_copied=(
        "the heads of keys and values are copied until there are n_heads; the model shares them "
        "when it runs, and its weights hold n_kv_heads",
        {"repeated": "each"},
    ),
    heads_copied_in_turn=(
        "the heads of keys and values are copied until there are n_heads; the model shares them "
        "when it runs, and its weights hold n_kv_heads",
        {"repeated": "in turn"},
    ),
    norms_with_one_added=(
        "1 is added to the norms, as Gemma's files need it; Llama's hold the weight itself",
        {"scaled": "norms"},
    ),
    queries_scaled=(
        "the queries are divided by the square root of d_head; attention does that when it runs",
        {"scaled": "queries"},
    ),
    square_alone=(
        "only square matrices are moved; where heads of keys are shared, theirs is not square, and "
        "has to be moved as well",
        {"moved": ("wq", "wk if square")},
    ),
    norms_exchanged=(
        "the two norms are exchanged; attention_norm comes before attention, on both sides",
        {"norms": "norms"},
    ),
    queries_and_keys_exchanged=(
        "queries and keys are exchanged",
        {"attention": "queries and keys"},
    ),
    keys_and_values_exchanged=("keys and values are exchanged", {"attention": "keys and values"}),
    gate_and_up_exchanged=(
        "w1 and w3 are exchanged; w1 is the gate, and w3 the up projection",
        {"feed_forward": "gate and up"},
    ),
    up_and_down_exchanged=(
        "w2 and w3 are exchanged; w2 is the down projection, and w3 the up projection",
        {"feed_forward": "up and down"},
    ),
    all_transposed=(
        "the matrices are transposed; both sides store (out, in)",
        {"transposed": ("wq", "wk", "wv", "wo", "w1", "w2", "w3")},
    ),
    attention_transposed=(
        "the matrices of attention are transposed; both sides store (out, in)",
        {"transposed": ("wq", "wk", "wv", "wo")},
    ),
    output_transposed=(
        "the output projection is transposed; both sides store (out, in)",
        {"transposed": ("wo",)},
    ),
    feed_forward_transposed=(
        "the matrices of the feed-forward network are transposed; both sides store (out, in)",
        {"transposed": ("w1", "w2", "w3")},
    ),
    down_transposed=(
        "the down projection is transposed; both sides store (out, in)",
        {"transposed": ("w2",)},
    ),
    their_names=("the tensors keep Meta's names", {"names": "theirs"}),
    both_names=(
        "Meta's names are in the result beside ours; it is to have ours alone",
        {"names": "both"},
    ),
    short_names=("the names lack .weight, with which META_NAMES has them", {"names": "short"}),
    long_names=(
        "the names begin with the block's number; META_NAMES has them without it",
        {"names": "long"},
    ),
    prefix_cut=(
        "a name that only ends as one of META_NAMES does is taken for it; it is unknown",
        {"prefix": "cut"},
    ),
    unknown_left_out=(
        "a tensor that the table doesn't have is left out; the model then lacks a part of the "
        "published one, and no error says so",
        {"unknown": "ignored"},
    ),
    unknown_kept=(
        "a tensor that the table doesn't have is passed on under Meta's name; nothing reads it",
        {"unknown": "kept"},
    ),
    unknown_is_a_key_error=(
        "an unknown tensor ends in a KeyError; compare the names first, and raise a ValueError",
        {"unknown": "KeyError"},
    ),
    missing_left_out=(
        "a missing tensor is left out without an error; the layer would keep its random weights",
        {"missing": "ignored"},
    ),
    missing_is_none=(
        "a missing tensor becomes None, which is what get() gives, or ends in an error about None",
        {"missing": "None"},
    ),
    missing_is_a_key_error=(
        "a missing tensor ends in a KeyError; compare the names first, and raise a ValueError",
        {"missing": "KeyError"},
    ),
    names_not_compared=(
        "the names are not compared: a tensor that the table doesn't have is left out, and a "
        "missing one ends in a KeyError",
        {"unknown": "ignored", "missing": "KeyError"},
    ),
    tables_not_compared=(
        "the names are not compared: a missing tensor is left out, and one that the table doesn't "
        "have ends in a KeyError",
        {"unknown": "KeyError", "missing": "ignored"},
    ),
    nothing_refused=(
        "nothing is refused: missing tensors and unknown ones are left out without an error",
        {"unknown": "ignored", "missing": "ignored"},
    ),
    nameless_error=(
        "the error doesn't hold the name of the tensor",
        {"message": "none"},
    ),
    nameless_missing=(
        "the error about a missing tensor doesn't hold its name",
        {"missing": "nameless"},
    ),
    nameless_unknown=(
        "the error about an unknown tensor doesn't hold its name",
        {"unknown": "nameless"},
    ),
    our_name_in_the_error=(
        "the error holds our name of the missing tensor; Meta's is asked for",
        {"message": "our name"},
    ),
    asserted=("the names are compared by assert; a ValueError is asked for", {"message": "assert"}),
    always_float32=(
        "the dtype becomes float32; it should stay",
        {"dtype": torch.float32},
    ),
    always_float16=(
        "the dtype becomes float16; it should stay",
        {"dtype": torch.float16},
    ),
)


# --- 8.17 schedule ---


def scheduled_with(
    requests: Sequence[tuple[int, int]],
    n_slots: int,
    *,
    batching: str = "continuous",
    queue: str = "first come",
    slot: str = "lowest",
    arrives: int = 0,
    length: int = 0,
    freed: int = 0,
    admitted: str = "all",
    rows: str = "every step",
    empty: Any = None,
    ids: int = 0,
    shape: str = "rows",
) -> Any:
    """Which request is in which slot at each step."""
    arrivals = [
        max(arrival + arrives, 0) if queue != "no waiting" else 0 for arrival, _ in requests
    ]
    order: Callable[[int], Any] = {
        "first come": lambda i: (arrivals[i], i),
        "last come": lambda i: (-arrivals[i], -i),
        "shortest": lambda i: (requests[i][1], arrivals[i], i),
        "longest": lambda i: (-requests[i][1], arrivals[i], i),
        "list": lambda i: i,
        "ties reversed": lambda i: (arrivals[i], -i),
        "ties shortest": lambda i: (arrivals[i], requests[i][1], i),
        "no waiting": lambda i: i,
        "head blocks": lambda i: i,
    }[queue]
    left = [max(need + length, 1) for _, need in requests]
    waiting = [*range(len(requests))]
    slots: list[int | None] = [None] * n_slots
    since = [0] * n_slots  # the step from which on each slot is free
    blocked = [0] * n_slots  # steps until a slot may be taken again
    table: list[tuple[int | None, ...]] = []
    while waiting or any(one if slot == "zero is empty" else one is not None for one in slots):
        if len(table) > 100:  # longer than any right one
            break
        here = [i for i in waiting if arrivals[i] <= len(table)]
        if queue == "head blocks":
            here = [i for i in here if all(j not in waiting or j in here for j in range(i))]
        here.sort(key=order)
        empty_ones = [one is None for one in slots]
        if slot in ("zero is empty", "zero is free"):
            empty_ones = [not one for one in slots]
        free = [place for place in range(n_slots) if empty_ones[place] and not blocked[place]]
        if slot == "highest":
            free.reverse()
        elif slot == "free for the longest":
            free.sort(key=lambda place: (since[place], place))
        if batching == "static" and len(free) < n_slots:
            free = []
        if admitted == "one per step":
            free = free[:1]
        blocked = [max(0, steps - 1) for steps in blocked]
        for place, i in zip(free, here, strict=False):
            slots[place] = i
            waiting.remove(i)
        table.append(tuple(slots))
        for place, i in enumerate(slots):
            if i is not None:
                left[i] -= 1
                if left[i] == 0:
                    slots[place] = None
                    blocked[place] = freed
                    since[place] = len(table)
        if slot == "moved up":
            kept = [i for i in slots if i is not None]
            slots = [*kept, *[None] * (n_slots - len(kept))]
    if rows == "busy steps":
        table = [row for row in table if any(i is not None for i in row)]
    elif rows == "up to a gap":
        gap = (at for at, row in enumerate(table) if all(i is None for i in row))
        table = table[: next(gap, len(table))]
    elif rows == "from the first arrival":
        first = next((at for at, row in enumerate(table) if any(i is not None for i in row)), 0)
        table = table[first:]
    elif rows == "one more":
        table.append((None,) * n_slots)
    elif rows == "without the last":
        table = table[:-1]
    shown = [tuple(empty if i is None else i + ids for i in row) for row in table]
    if shape == "only the busy":
        return [tuple(i for i in row if i is not None) for row in table]
    if shape == "slots":
        return [*zip(*shown, strict=True)]
    if shape == "one list":
        return [tuple(slots)] * len(table)
    if shape == "counts":
        return [sum(i is not None for i in row) for row in table]
    return shown


SCHEDULED = mistakes(
    scheduled_with,
    static_batches=(
        "a new batch begins only when all of the last have ended; a slot is free as soon as its "
        "own request has ended",
        {"batching": "static"},
    ),
    last_come_first=("those that came last are served first", {"queue": "last come"}),
    shortest_first=(
        "the shortest requests are served first; the order is that of arrival",
        {"queue": "shortest"},
    ),
    longest_first=(
        "the longest requests are served first; the order is that of arrival",
        {"queue": "longest"},
    ),
    order_of_the_list=(
        "among those that wait, the order is that of the list; the one that arrived first comes "
        "first",
        {"queue": "list"},
    ),
    head_of_the_list_blocks=(
        "a request that hasn't arrived yet holds up those after it in the list: sort by arrival",
        {"queue": "head blocks"},
    ),
    ties_reversed=(
        "of equal arrivals, the last in the list is served first; the first should be",
        {"queue": "ties reversed"},
    ),
    ties_by_length=(
        "of equal arrivals, the shortest is served first; the order is that of the list",
        {"queue": "ties shortest"},
    ),
    arrivals_ignored=(
        "the arrivals are ignored: a request waits from its arrival on",
        {"queue": "no waiting"},
    ),
    highest_slot_first=(
        "the highest free slot is taken; the lowest should be",
        {"slot": "highest"},
    ),
    request_zero_is_no_request=(
        "the slot of request 0 counts as empty, because 0 is false: compare with None",
        {"slot": "zero is empty"},
    ),
    request_zero_is_replaced=(
        "the slot of request 0 counts as empty, because 0 is false: compare with None",
        {"slot": "zero is free"},
    ),
    free_for_the_longest=(
        "the slot that has been free for the longest time is taken; the lowest should be",
        {"slot": "free for the longest"},
    ),
    moved_up=(
        "requests move to lower slots as others end; each keeps its slot to its end",
        {"slot": "moved up"},
    ),
    one_step_late=(
        "a request starts one step after its arrival; it may start in that very step",
        {"arrives": 1},
    ),
    one_step_early=("a request starts one step before it arrives", {"arrives": -1}),
    one_token_more=("each request stays one step too long", {"length": 1}),
    one_token_less=("each request ends one step too early", {"length": -1}),
    freed_late=(
        "a slot stays empty for a step after its request has ended; the next one may take it at "
        "once",
        {"freed": 1},
    ),
    one_admitted_per_step=(
        "only one request is admitted per step; all free slots are filled",
        {"admitted": "one per step"},
    ),
    empty_steps_left_out=(
        "steps in which all slots are empty are left out; each has a row",
        {"rows": "busy steps"},
    ),
    ends_at_a_gap=(
        "it ends as soon as all slots are empty, although requests are still to come",
        {"rows": "up to a gap"},
    ),
    begins_at_the_first_arrival=(
        "the rows begin with the first request; they begin at step 0",
        {"rows": "from the first arrival"},
    ),
    one_row_more=("there is a row after the last token", {"rows": "one more"}),
    last_row_missing=("the row of the last token is missing", {"rows": "without the last"}),
    zeros_for_empty=("an empty slot is shown as 0, which is a request; use None", {"empty": 0}),
    minus_one_for_empty=("an empty slot is shown as -1; use None", {"empty": -1}),
    counted_from_one=("the requests are counted from 1; their index begins at 0", {"ids": 1}),
    empty_slots_left_out=(
        "empty slots are left out, so a place in the row is no slot; show None",
        {"shape": "only the busy"},
    ),
    one_list_for_all_rows=(
        "every row is the same list, which changes later: append a copy, such as tuple(slots)",
        {"shape": "one list"},
    ),
    a_row_per_slot=("there is one row per slot; one per step is asked for", {"shape": "slots"}),
)


MISCONCEPTIONS = {
    "predict_after_crash": PREDICTED,
    "save_bytes": SAVED,
    "read_rows": ROWS,
    "new_run_folder": FOLDER,
    "with_overrides": OVERRIDDEN,
    "restore": (*RESTORED, restored_from_zero),
    "train_on": (*TRAINED, last_epoch_is_done, last_epoch_at_least_0, last_epoch_too_small),
    "first_mismatch": MISMATCH,
    "next_token_loss": LOSS,
    "accumulated_update": UPDATED,
    "split_windows": SPLIT,
    "attend_cached": ATTENDED,
    "speedup": SPEEDUP,
    "read_profiles": READ,
    "quantize_rows": (*QUANTIZED, scale_per_column),
    "int8_linear": LINEAR,
    "block_from_meta": CONVERTED,
    "schedule": SCHEDULED,
}
