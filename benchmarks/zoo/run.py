"""Run the zoo and print its tables."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from weightlab.errors import WeightLabError

from .cases import NEAR, NONFINITE, Outcome, ask, cases, healthy_loss, kinds, laboratory, run
from .controls import CONTROLS
from .judge import Answer
from .rules import sagemaker
from .specimen import STEPS

RESULTS = Path(__file__).parent.parent / "RESULTS.md"
GOALS = {"place": 0.95, "precision": 0.98, "repair": 0.90}


@dataclass
class Healthy:
    """What was said about one control; `loud` are false alarms."""

    title: str
    seconds: float
    loud: list[Answer] = field(default_factory=list)
    error: str = ""
    rules: int = 0


def controls(chosen: str | None = None) -> list[Healthy]:
    result = []
    for one in CONTROLS:
        if chosen is not None and chosen not in one.title:
            continue
        specimen = one.make()
        start = time.perf_counter()
        error, found = "", []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = [answer for answer in ask(laboratory(specimen)) if answer.loud]
            except WeightLabError as problem:
                error = f"{type(problem).__name__}: {problem}"
            except Exception as problem:  # a crash on a healthy model is counted, not hidden
                error = f"crash, {type(problem).__name__}: {problem}"
        result.append(Healthy(one.title, time.perf_counter() - start, found, error, len(sagemaker(specimen))))
    return result


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def line(title: str, held: list[Outcome]) -> str:
    """One row: cases, recall of kind, of kind and place, false alarms, repairs, time, and the rules on the same cases."""
    count = len(held)
    asked = [one for one in held if one.worked is not None]
    cells = [
        title,
        str(count),
        share(sum(one.verdict.kind for one in held), count),
        share(sum(one.verdict.place for one in held), count),
        str(sum(len(one.verdict.false) for one in held)),
        f"{sum(bool(one.worked) for one in asked)} of {len(asked)}" if asked else "–",
        f"{sum(one.harmless for one in asked)} of {len(asked)}" if asked else "–",
        f"{1000 * statistics.median(one.seconds for one in held):.0f}",
        share(sum(one.rule_kind for one in held), count),
        share(sum(one.rule_place for one in held), count),
    ]
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    "cases", "kind", "kind and place", "false alarms", "repaired", "as good without", "ms", "rules: kind",
    "rules: kind and place",
)  # fmt: skip
HEAD = "| {} | " + " | ".join(COLUMNS) + " |\n|---" + "|---:" * len(COLUMNS) + "|"


def grouped(outcomes: list[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[key(one)].append(one)
    return groups


def tables(outcomes: list[Outcome], healthy: list[Healthy]) -> list[str]:
    text = [HEAD.format("kind")]
    by_kind = grouped(outcomes, lambda one: one.case.fault.kind)
    text += [line(f"`{kind}`", by_kind[kind]) for kind in kinds() if kind in by_kind]
    text += [line("**all**", outcomes), "", HEAD.format("architecture")]
    text += [line(name, held) for name, held in grouped(outcomes, lambda one: one.case.architecture).items()]
    text += ["", *summary(outcomes, healthy)]
    return text


def summary(outcomes: list[Outcome], healthy: list[Healthy]) -> Iterable[str]:
    """The figures that have goals, and what the others do on the same cases."""
    count = len(outcomes)
    right = sum(one.verdict.right for one in outcomes)
    in_cases = sum(len(one.verdict.false) for one in outcomes)
    in_controls = sum(len(one.loud) for one in healthy)
    noisy = sum(bool(one.loud or one.error) for one in healthy)
    asked = [one for one in outcomes if one.worked is not None]
    place = sum(one.verdict.place for one in outcomes)
    worked = sum(bool(one.worked) for one in asked)
    yield "| figure | measured | goal | met |"
    yield "|---|---|---|---|"
    yield f"| recall of kind | {share(sum(one.verdict.kind for one in outcomes), count)} of {count} | | |"
    yield f"| recall of kind and place | {share(place, count)} of {count} | 95 % | {met(place, count, 'place')} |"
    told = right + in_cases + in_controls
    yield (
        f"| precision: findings above info that are right | {share(right, told)} of {told} "
        f"({in_cases} false beside faults, {in_controls} on controls) | 98 % | {met(right, told, 'precision')} |"
    )
    yield f"| healthy controls with a finding above info | {noisy} of {len(healthy)} | 0 | {'yes' if not noisy else 'no'} |"
    if asked:
        yield (
            f"| repair: loss after {STEPS} steps at most {NEAR} times the healthy twin's | {share(worked, len(asked))} of "
            f"{len(asked)} | 90 % | {met(worked, len(asked), 'repair')} |"
        )
        hurt = [one for one in asked if not one.harmless]
        healed = sum(bool(one.worked) for one in hurt)
        yield f"| … of those that do not get there by training alone | {share(healed, len(hurt))} of {len(hurt)} | | |"
    spent = [one.seconds for one in outcomes]
    if spent:
        yield f"| time of one diagnosis | median {1000 * statistics.median(spent):.0f} ms, longest {max(spent):.2f} s | | |"
        yield f"| SageMaker Debugger's rules: kind | {share(sum(one.rule_kind for one in outcomes), count)} | | |"
        yield (
            f"| SageMaker Debugger's rules: kind and place | {share(sum(one.rule_place for one in outcomes), count)} | | |"
        )
    alarmed = sum(bool(one.rules) for one in healthy)
    yield f"| SageMaker Debugger's rules: healthy controls with an alarm | {alarmed} of {len(healthy)} | | |"
    broken = [one for one in outcomes if one.anomaly_kind is not None]
    if broken:
        seen = sum(bool(one.anomaly_kind) for one in broken)
        named = sum(bool(one.anomaly_place) for one in broken)
        ours = sum(one.verdict.place for one in broken)
        yield (
            f"| anomaly mode on the {len(broken)} cases of {', '.join(NONFINITE)} | raises in {seen}, blames the function "
            f"at fault in {named}; the diagnosis: {ours} | | |"
        )


def met(part: int, whole: int, goal: str) -> str:
    return "yes" if whole and part / whole >= GOALS[goal] else "no"


def misses(outcomes: list[Outcome], healthy: list[Healthy]) -> Iterable[str]:
    for one in outcomes:
        verdict = one.verdict
        failed = one.worked is False
        if verdict.place and not verdict.false and not one.error and not failed:
            continue
        yield f"{one.case.title}"
        if one.error:
            yield f"    raised {one.error[:300]}"
        if not verdict.place:
            yield f"    missed: {'kind found at another place' if verdict.kind else 'kind not found'}"
            yield from (f"      said {answer}"[:260] for answer in one.found)
        yield from (f"    false {answer}"[:260] for answer in verdict.false)
        if failed:
            yield f"    repair failed: {one.repaired:.3g}, healthy {one.healthy:.3g}, without repair {one.left:.3g}"
    for held in healthy:
        if held.loud or held.error:
            yield f"control {held.title}"
            if held.error:
                yield f"    raised {held.error[:300]}"
            yield from (f"    false {answer}"[:260] for answer in held.loud)


def twins_apart(names: Iterable[str]) -> str:
    """How far healthy twins of other seeds end from the first: the noise that a repair is measured in."""
    ratios = []
    for name in names:
        first = healthy_loss(name, 0)
        ratios += [healthy_loss(name, seed) / first for seed in (1, 2)]
    within = sum(ratio <= NEAR for ratio in ratios)
    return f"Healthy twins of other seeds end within {NEAR} times of the first in {within} of {len(ratios)} runs."


def machine() -> str:
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} thread, {platform.machine()}, torch {torch.__version__}"


EXPLAINED = f"""`benchmarks/fault_zoo.py`. A case is one architecture with one planted fault, beside a healthy twin of the same
seed. Recall counts a finding of the planted kind above info (`unused_rows` and `invariant`: at any severity), and for the place
one whose parameter or module is among those that the fault was planted at or right beside. A finding above info is false
unless it is the planted kind at a right place, or of a kind that the fault brings about by itself (the table CONSEQUENCES of
`benchmarks/zoo/judge.py`); on a control every one is false. Repair: `lab.repair_all()` once, then {STEPS} steps over the twin's
batches; it worked when the loss over the training data is at most {NEAR} times the twin's. Only faults in the model's or the
optimizer's state are repaired, not those in code or data. "As good without": training alone gets there too. The rules of
Amazon SageMaker Debugger, written anew from their definitions, see one forward and backward of the same batch."""


def write(text: list[str]) -> None:
    """Replace the zoo's part of RESULTS.md."""
    old = RESULTS.read_text()
    title = "## Fault zoo"
    before, _, rest = old.partition(title)
    _, mark, after = rest.partition("\n## ")
    date = datetime.datetime.now(tz=datetime.timezone.utc).date()
    part = "\n".join([f"{title}, {date}", "", f"{EXPLAINED} {machine()}.", "", *text])
    RESULTS.write_text(before.rstrip("\n") + "\n\n" + part.rstrip("\n") + "\n" + (mark + after if mark else ""))


def main() -> None:
    ask_for = argparse.ArgumentParser(description=__doc__)
    ask_for.add_argument("--only", help="one kind of fault")
    ask_for.add_argument("--arch", help="one architecture")
    ask_for.add_argument("--seed", type=int, default=0)
    ask_for.add_argument("--control", help="controls whose title holds this")
    ask_for.add_argument("--no-controls", action="store_true")
    ask_for.add_argument("--no-repair", action="store_true", help="leave the training out")
    ask_for.add_argument("--verbose", action="store_true", help="list misses, false alarms and failed repairs")
    ask_for.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    options = ask_for.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    chosen = [] if options.control else cases(options.only, options.arch, options.seed)
    outcomes = [run(case, repair=not options.no_repair) for case in chosen]
    part = options.only or options.arch or options.no_controls
    healthy = [] if part and not options.control else controls(options.control)
    text = tables(outcomes, healthy) if outcomes else list(summary(outcomes, healthy))
    if any(one.worked is not None for one in outcomes):
        text += ["", twins_apart({one.case.architecture: None for one in outcomes})]
    print("\n".join(text))
    if options.verbose:
        print("\n".join(["", *misses(outcomes, healthy)]))
    print(f"\n{len(outcomes)} cases, {len(healthy)} controls, {time.perf_counter() - start:.0f} s")
    if options.write:
        write(text)
