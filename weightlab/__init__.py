"""WeightLab: a microscope and a scalpel for PyTorch models inside Jupyter.

see    lab["conv1.weight"].summary(), .plot(), and the widget
edit   lab["conv1.weight"][3].zero_(), lab.undo(), lab.redo()
check  lab.check_gradients()
"""

from weightlab.check.causes import Cause
from weightlab.check.finding import Diagnosis, Finding
from weightlab.check.gradients import GradientReport
from weightlab.check.repair import Repair
from weightlab.edit.entry import Entry
from weightlab.edit.operations import Edit
from weightlab.edit.snapshots import Diff
from weightlab.edit.transfer import Transfer
from weightlab.errors import (
    BadMessage,
    Cancelled,
    EditRefused,
    FileExists,
    NoValues,
    ProbeFailed,
    UndoConflict,
    UnknownName,
    WeightLabError,
)
from weightlab.lab import Lab
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, TensorInfo
from weightlab.progress import Progress
from weightlab.see.spectrum import Spectrum
from weightlab.see.summary import Summary
from weightlab.starting import open, replay
from weightlab.train.hold import Constraint
from weightlab.weight import WeightRef

__version__ = "0.1.0"

__all__ = [
    "BadMessage",
    "Cancelled",
    "Cause",
    "Constraint",
    "Diagnosis",
    "Diff",
    "Edit",
    "EditRefused",
    "Entry",
    "Finding",
    "GradientReport",
    "Lab",
    "FileExists",
    "NoValues",
    "ParameterTree",
    "ProbeFailed",
    "Progress",
    "Region",
    "Repair",
    "Spectrum",
    "Summary",
    "Transfer",
    "TensorInfo",
    "UndoConflict",
    "UnknownName",
    "WeightLabError",
    "WeightRef",
    "open",
    "replay",
]
