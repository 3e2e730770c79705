"""Check what an edit did: run the model forward and backward without leaving a trace, and say why gradients stop."""

from weightlab.check.causes import Cause
from weightlab.check.gradients import check_gradients
from weightlab.check.probe import Probe
from weightlab.check.report import Change, Changes, GradientReport, GradientRow

__all__ = ["Probe", "check_gradients", "GradientReport", "GradientRow", "Cause", "Changes", "Change"]
