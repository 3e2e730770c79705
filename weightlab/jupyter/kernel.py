"""Which thread answers while a cell runs.

JupyterLab 4.4 and later send comm messages over a subshell: the handler runs in another thread, also during a cell.
ipykernel, however, answers on the subshell of the last sender on that comm, and opening a comm in a cell counts as
sending from the main thread: the first request after "Run All" would wait for the running loop to end.
"""

from __future__ import annotations

from typing import Any


def answer_from_any_thread(comm: Any) -> None:
    """Forget which shell opened the comm, so that the first request need not wait for the running cell.

    `_reply_subshell_for` is private to ipykernel 7.4 and later; where it is missing nothing is needed, or nothing
    helps: the page then says "kernel busy".
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = None
