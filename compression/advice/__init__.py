"""Advice: which techniques suit a model, its data and its target, told from inspections and from what
finished jobs measured. Nothing is run.
"""

from compression.advice.advise import Asked, advise
from compression.advice.answer import Advice
from compression.advice.evidence import Run

__all__ = ["Advice", "Asked", "Run", "advise"]
