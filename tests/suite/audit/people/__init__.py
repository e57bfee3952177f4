"""Modules as different people write them, some correct, some with one defect, each with what is right of it."""

from people import biology, habits_of_names, matching, mixed, odd, unusual, vision
from people.truths import CASES, Case, broken

__all__ = ["CASES", "Case", "biology", "broken", "habits_of_names", "matching", "mixed", "odd", "unusual", "vision"]
