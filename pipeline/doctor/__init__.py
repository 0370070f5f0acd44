"""Is all well? Every stage is really run on something known; what came of it is said in plain words, with its time."""

from pipeline.doctor.examination import examine
from pipeline.doctor.finding import WORDS, Begun, Finding, Grade, Step, Working

__all__ = ["WORDS", "Begun", "Finding", "Grade", "Step", "Working", "examine"]
