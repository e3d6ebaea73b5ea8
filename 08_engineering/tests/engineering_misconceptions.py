"""Common wrong answers in lesson 08; a docstring is the diagnosis."""

MISCONCEPTIONS = {}
