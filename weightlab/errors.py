"""Every error that WeightLab raises on purpose.

One base class, so that one `except` catches them all; each kind is also the built-in kind that a Python user would
expect. A message reads: *subject with shape: rule, expected, got. What to do.* The page shows the same text.
"""


class WeightLabError(Exception):
    """Base class of all errors raised by WeightLab."""

    def __str__(self) -> str:
        # KeyError would print its argument with repr(); a sentence needs no quotes around it.
        return str(self.args[0]) if self.args else ""


class UnknownName(WeightLabError, KeyError):
    """No parameter, buffer, snapshot or module has the name that was asked for."""


class EditRefused(WeightLabError, ValueError):
    """An edit, a region or a hold that cannot be carried out. Nothing was changed."""


class UndoConflict(WeightLabError, RuntimeError):
    """Undo or redo met cells that somebody else has changed since. Nothing was changed.

    The second argument says how to insist in Python; the page has a button for that, and tells the first alone.
    """

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


class ProbeFailed(WeightLabError, RuntimeError):
    """The forward or backward pass of a check raised, or no input for it could be made."""


class NoValues(WeightLabError, ValueError):
    """A tensor whose values are not there to be looked at, such as one on the meta device."""


class FileExists(WeightLabError, FileExistsError):
    """The page was not told to replace the file that has this name already. Nothing was written."""


class Cancelled(WeightLabError):
    """Somebody asked a long computation to end, and it did. Nothing was changed."""


class BadMessage(WeightLabError, ValueError):
    """A message from the page that does not fit the protocol. Nothing was done."""
