"""utils/grader/report.py: combining the cases of an exercise into a message."""

import io
import math
import sys
from dataclasses import replace

import pytest

from utils.grader.exercises import how_to
from utils.grader.report import (
    PRINTED_LINES,
    SOLVED,
    TO_DO,
    WIDTH,
    WRONG,
    Case,
    Diagnosis,
    Verdict,
    bar,
    colour,
    counts,
    diagnose,
    failure_text,
    is_named,
    message_lines,
    verdict,
    wrap,
)

A, B = "the axes are swapped", "the scale is missing"
C, D = "the mask is inverted", "the largest entry is not subtracted"
HINT = f"For a hint: {how_to('hint', '1.3')}"


def wrong(*names: str, can_tell: bool = True, refuted: tuple[str, ...] = ()) -> Case:
    """A failed case that these misconceptions explain."""
    explained = frozenset(names) if can_tell else None
    return Case("1.3", WRONG, "", "it differs", explained, refuted=frozenset(refuted))


def solved(*refuted: str) -> Case:
    """A case that passed, but would fail with these misconceptions."""
    return Case("1.3", SOLVED, refuted=frozenset(refuted))


TODO = Case("1.3", TO_DO)

# --- one verdict from many cases ---


@pytest.mark.parametrize(
    ("cases", "outcome"),
    [
        ([solved()], SOLVED),
        ([solved(), solved()], SOLVED),
        ([wrong()], WRONG),
        ([solved(), wrong(), solved()], WRONG),
        ([TODO, wrong()], WRONG),
        ([TODO], TO_DO),
        ([solved(), TODO], TO_DO),
        ([TODO, solved()], TO_DO),
        ([], TO_DO),
    ],
)
def test_one_wrong_case_makes_an_exercise_wrong_and_only_solved_cases_make_it_solved(
    cases, outcome
):
    found = verdict("1.3", cases)
    assert (found.exercise, found.outcome) == ("1.3", outcome)
    assert found.checks == len(cases)


def test_the_message_is_that_of_the_first_failed_case():
    cases = [
        solved(),
        Case("1.3", WRONG, "it doubles", "first", frozenset({A}), printed="hello"),
        Case("1.3", WRONG, "it halves", "second", frozenset({A}), printed="bye"),
    ]
    expected = Verdict("1.3", WRONG, "it doubles", "first", A, printed="hello", failed=2, checks=3)
    assert verdict("1.3", cases) == expected


def test_what_a_solved_case_refutes_is_not_the_diagnosis():
    assert verdict("1.3", [wrong(A), solved(B)]).diagnosis == A
    assert verdict("1.3", [wrong(A), solved(A)]).diagnosis == ""


def test_without_a_diagnosis_the_checks_that_pass_are_told():
    passed = [Case("1.3", SOLVED, check) for check in ("rows", "it halves", "rows", "axes", "end")]
    cases = [Case("1.3", WRONG, "it halves", "no"), *passed]
    found = verdict("1.3", cases)
    assert found.holds == "rows; axes"  # "it halves" passes in one case only; three are too many
    assert "What holds: rows; axes." in message_lines(found)
    named = Case("1.3", WRONG, "it halves", "no", frozenset({A}))
    assert verdict("1.3", [named, *passed]).holds == ""
    assert verdict("1.3", [wrong()]).holds == ""


def test_a_verdict_has_a_message_only_if_it_is_wrong():
    cases = [Case("1.3", SOLVED, printed="noise", refuted=frozenset({A}))]
    assert verdict("1.3", cases) == Verdict("1.3", SOLVED, checks=1)


def test_a_broken_file_is_remembered():
    assert verdict("1.3", [Case("1.3", WRONG, message="no", broken_file=True)]).broken_file


# --- which misconception ---


@pytest.mark.parametrize(
    ("cases", "name"),
    [
        ([wrong(A)], A),
        ([wrong(A), wrong(A)], A),
        ([wrong(A, B), wrong(A)], A),
        ([wrong(A), wrong(can_tell=False)], A),
        ([wrong(A), solved(B)], A),
        ([wrong(A, B), solved(B)], A),
        ([wrong(A, B), wrong(A, B, refuted=(B,))], A),
        ([wrong(A, B)], ""),
        ([wrong(A), wrong(B)], ""),
        ([wrong(A), wrong()], ""),
        ([wrong(A), solved(A)], ""),
        ([wrong(A, B), solved(A, B)], ""),
        ([wrong(A, refuted=(A,))], ""),
        ([wrong(can_tell=False)], ""),
        ([wrong()], ""),
        ([solved(A)], ""),
        ([], ""),
    ],
)
def test_a_misconception_is_named_firmly_if_it_alone_explains_every_case(cases, name):
    assert diagnose(cases) == Diagnosis(name)


def alike(*names: str, exact: tuple[str, ...] = (), refuted: tuple[str, ...] = ()) -> Case:
    """A failed case that these misconceptions resemble, and some explain exactly."""
    explained, resembles = frozenset(exact), frozenset(names + exact)
    return Case("1.3", WRONG, "", "no", explained, resembles, frozenset(refuted))


@pytest.mark.parametrize(
    ("cases", "name"),
    [
        ([alike(A)], A),  # a mistake beside a cast: the same values in another dtype
        ([alike(A), alike(A, exact=(A,))], A),
        ([alike(exact=(A,)), alike()], A),  # two mistakes: A explains the first failure
        ([alike(exact=(A, B)), alike(A), alike(A, B)], A),  # and more failures than B
        ([alike(A, B), alike(B), alike(B)], B),
        ([alike(A, B), alike(A), solved(B)], A),
        ([alike(A, B), wrong(can_tell=False), alike(A)], A),
        ([alike(A), alike(A), alike(B), alike(B)], A),  # the first failure is the one shown
        ([alike(A), alike(B), alike(B)], ""),  # one case of three: that would be a guess
        ([alike(A, B)], ""),  # a tie
        ([alike(A, B), alike(A), alike(B)], ""),
        ([alike(exact=(A, B))], ""),
        ([alike(), alike(A), alike(A)], ""),  # nothing explains the failure that is shown
        ([alike(A), solved(A)], ""),  # refuted where the answer is right
        ([alike(A, refuted=(A,))], ""),
        ([alike(A, B), alike(A), solved(A, B)], ""),
        ([alike()], ""),
    ],
)
def test_a_misconception_that_does_not_explain_everything_is_named_in_weaker_words(cases, name):
    assert diagnose(cases) == Diagnosis(name, name == "")


def test_an_exact_explanation_of_every_case_is_preferred_to_a_resemblance():
    assert diagnose([alike(B, exact=(A,)), alike(B, exact=(A,))]) == Diagnosis(A)


def test_the_diagnosis_is_that_of_the_first_function_that_fails():
    one, other = replace(wrong(A), function="one"), replace(wrong(B), function="other")
    assert diagnose([one, other, other]) == Diagnosis(A)
    assert diagnose([other, one, other]) == Diagnosis(B)
    assert diagnose([one, replace(other, function="one")]) == Diagnosis()


def left(*pairs: tuple[str, str]) -> Case:
    """A failed case that resembles A, after which these pairs of mistakes are left."""
    return replace(alike(A), pairs=list(pairs))


@pytest.mark.parametrize(
    ("cases", "found"),
    [
        ([left((A, B))], Diagnosis(A, True, B)),
        ([left((A, B), (A, C)), left((A, C))], Diagnosis(A, True, C)),  # the last case decides
        ([left((A, B), (C, A))], Diagnosis(A, False)),  # both hold A
        ([left((A, B), (B, A))], Diagnosis()),
        ([left((A, B), (C, D))], Diagnosis()),
        ([left((A, B)), left()], Diagnosis(A, False)),
        ([replace(wrong(C), pairs=[(A, B)])], Diagnosis(C)),  # one mistake explains as much
    ],
)
def test_two_mistakes_are_named_where_no_single_one_explains_every_case(cases, found):
    assert diagnose(cases) == found


def test_two_mistakes_are_told_one_below_the_other():
    both = Verdict("1.3", WRONG, message="no", diagnosis=A, second_mistake=B)
    assert message_lines(both)[1:4] == [
        "This looks like two mistakes at once:",
        f"  1. {A}.",
        f"  2. {B}.",
    ]


OWN = replace(wrong("own"), own_diagnosis="own", margin=math.inf)


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ([], False),
        ([solved()], False),
        ([OWN], True),
        ([solved(), OWN, solved()], True),
        ([replace(OWN, margin=99.0)], False),  # too close to the right answer to be clear
        ([replace(OWN, margin=99.0), OWN], True),
        ([replace(OWN, explained_by=frozenset({"own", "other"}))], False),
        ([replace(OWN, explained_by=frozenset({"own", "other"})), OWN], True),
        ([replace(OWN, explained_by=frozenset({"other"}))], False),
        ([replace(OWN, explained_by=None)], False),
        ([replace(OWN, explained_by=frozenset(), resembles=frozenset({"own"}))], False),
        ([OWN, solved("own")], False),
        ([replace(OWN, is_replaced=True)], False),
    ],
)
def test_a_known_wrong_answer_is_named_if_its_own_diagnosis_alone_remains(cases, named):
    assert is_named(cases) is named


def test_a_case_written_by_pytorch_does_not_count_as_a_mistake():
    replaced = Case("1.3", WRONG, "c", "correct, but written by PyTorch", is_replaced=True)
    found = verdict("1.3", [replaced, wrong(A), solved()])
    assert (found.message, found.diagnosis, found.failed) == ("it differs", A, 1)
    assert not found.is_replaced
    found = verdict("1.3", [solved(), replaced, replaced])
    assert (found.message, found.check, found.failed) == (replaced.message, "", 1)
    assert found.is_replaced


# --- words ---


def test_the_words_depend_on_how_certain_a_diagnosis_is():
    firm = Verdict("1.3", WRONG, message="no", diagnosis=A)
    assert message_lines(firm)[1] == f"This looks like: {A}."
    weak = Verdict("1.3", WRONG, message="no", diagnosis=A, is_certain=False)
    assert message_lines(weak)[1] == f"First of all, this looks like: {A}."


def test_the_hint_is_for_the_exercise_to_fix_first():
    found = Verdict("1.5", WRONG, message="it calls your f (1.3)", hint_for="1.3")
    assert message_lines(found)[-1] == HINT


def test_a_message_has_a_diagnosis_a_count_and_the_next_step():
    found = Verdict("1.3", WRONG, "it doubles", "f(x=3)\nthe result: got 1", A, failed=2, checks=7)
    assert message_lines(found, indent="  ") == [
        "  it doubles",
        "  f(x=3)",
        "  the result: got 1",
        f"  This looks like: {A}.",
        "  (2 of 7 checks fail; this is the first.)",
        f"  {HINT}",
    ]


def test_a_single_failure_is_not_counted():
    found = Verdict("1.3", WRONG, message="no", failed=1, checks=7)
    assert message_lines(found) == ["no", HINT]


def test_a_broken_file_is_reported_without_a_hint():
    found = Verdict("1.3", WRONG, "it doubles", "line 3: oh", failed=4, checks=4, broken_file=True)
    assert message_lines(found) == ["line 3: oh"]


def test_the_first_lines_of_output_are_shown():
    for count in (1, PRINTED_LINES, PRINTED_LINES + 1, 1000):
        lines = [f"line {number}" for number in range(count)]
        found = Verdict("1.3", WRONG, message="no", printed="\n".join(lines))
        shown = message_lines(found)[1:-1]
        more = ["  ..."] * (count > PRINTED_LINES)
        assert shown == ["It printed:", *(f"  {line}" for line in lines[:PRINTED_LINES]), *more]


NASTY = "\x1b[2J\x07 bell \r over \x00 \ud800 tab\tend \u202e left"


def test_nothing_unprintable_reaches_the_terminal():
    found = Verdict("1.3", WRONG, NASTY, f"it has {NASTY}\n    {NASTY}", printed=NASTY)
    for line in message_lines(found):
        assert line.isprintable()
    assert "?[2J? bell " in "\n".join(message_lines(found))


def test_no_line_is_wider_than_the_terminal():
    long = "word " * 40 + "x" * 200
    found = Verdict("1.3", WRONG, long, f"{long}\n    {long}", diagnosis=long, printed=long)
    for indent in ("", "  ", "      "):
        lines = message_lines(found, indent)
        assert max(map(len, lines)) == WIDTH
        assert all(line.startswith(indent) for line in lines)


def test_text_is_wrapped_and_indented_rows_are_cut():
    message = "a message that goes on " * 5 + "\n    row " + "1 " * 60 + "\nend"
    lines = wrap(message)
    assert " ".join(lines[:2]) == message.split("\n")[0].strip()
    row = message.split("\n")[1]
    assert lines[2] == row[: WIDTH - 1].rstrip() + "…"
    assert wrap(row[:WIDTH]) == [row[:WIDTH]]
    assert lines[3] == "end"
    assert wrap("self-attention " * 9)[0].endswith("self-attention")
    assert wrap("") == []


def test_pytest_shows_the_message_of_the_verdict():
    cases = [wrong(A), solved(), wrong(A)]
    assert failure_text(cases).splitlines() == message_lines(verdict("1.3", cases))


def test_outcomes_are_counted_in_one_order():
    found = [Verdict("1.1", TO_DO), Verdict("1.2", SOLVED), Verdict("1.3", SOLVED)]
    assert counts(found) == "solved 2, wrong 0, to do 1"
    assert counts([]) == "solved 0, wrong 0, to do 0"


@pytest.mark.parametrize("total", [1, 2, 3, 10, 20, 21, 60, 1000])
def test_a_bar_is_full_only_if_all_is_done_and_empty_only_if_nothing_is(total):
    bars = [bar(done, total) for done in range(total + 1)]
    assert {len(each) for each in bars} == {20}
    assert [each.count("#") for each in bars] == sorted(each.count("#") for each in bars)
    assert "#" not in bars[0]
    assert all("#" in each for each in bars[1:])
    assert all("-" in each for each in bars[:-1])
    assert "-" not in bars[-1]


def test_a_bar_of_nothing_is_empty():
    assert bar(0, 0) == "-" * 20
    assert bar(1, 2, length=4) == "##--"


class Terminal(io.StringIO):
    """Standard output on a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour("words", WRONG) == "words"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert colour("words", WRONG) == "\033[31mwords\033[0m"
    assert len({colour("words", outcome) for outcome in (SOLVED, WRONG, TO_DO)}) == 3
    monkeypatch.setenv("TERM", "dumb")
    assert colour("words", WRONG) == "words"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert colour("words", WRONG) == "words"
    monkeypatch.setenv("NO_COLOR", "")  # counts as unset, see https://no-color.org
    assert colour("words", WRONG) != "words"
