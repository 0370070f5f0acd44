"""The doctor: runs every stage on known input, and reports the result and the time in plain words."""

from pipeline.doctor.examination import examine
from pipeline.doctor.finding import WORDS, Begun, Finding, Grade, Step, Working

__all__ = ["WORDS", "Begun", "Finding", "Grade", "Step", "Working", "examine"]
