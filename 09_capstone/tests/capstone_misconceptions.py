"""Common wrong answers to the exercises of lesson 09; each diagnosis is shown to a learner."""

MISCONCEPTIONS = {}
