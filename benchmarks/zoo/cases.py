"""One case from end to end: plant, ask, judge, repair, train beside the healthy twin."""

from __future__ import annotations

import functools
import math
import time
import warnings
from dataclasses import dataclass, field

from weightlab import Lab
from weightlab.errors import WeightLabError

from . import gradient_faults, mild_faults, others, state_faults, strangers
from .architectures import ARCHITECTURES
from .judge import Answer, Verdict, answers, judge, victims
from .planting import FAULTS, Fault, Planted
from .rules import SPEAKS, anomaly, sagemaker
from .specimen import Specimen, loss_now, train

__all__ = ["Case", "Outcome", "cases", "gradient_faults", "mild_faults", "others", "run", "state_faults", "strangers"]
NEAR = 1.10  # a repair has worked when the loss after training is at most this times the healthy twin's
NONFINITE = ("nonfinite_weight", "nonfinite_activation", "nonfinite_gradient")


@dataclass(frozen=True)
class Case:
    architecture: str
    fault: Fault
    seed: int = 0

    @property
    def title(self) -> str:
        return f"{self.architecture}: {self.fault.kind}, {self.fault.plan}"


@dataclass
class Outcome:
    """What was seen for one case; losses are those after training."""

    case: Case
    verdict: Verdict = field(default_factory=Verdict)
    found: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""
    healthy: float = math.nan
    left: float = math.nan  # trained with its fault
    repaired: float | None = None  # None: nothing in the model's state to repair, or no repair asked for
    rule_kind: bool = False
    rule_place: bool = False
    rule_any: bool = False
    anomaly_kind: bool | None = None
    anomaly_place: bool | None = None

    @property
    def worked(self) -> bool | None:
        return None if self.repaired is None else self.repaired <= NEAR * self.healthy

    @property
    def harmless(self) -> bool:
        """Training gets over it without any repair."""
        return self.left <= NEAR * self.healthy


def cases(kind: str | None = None, architecture: str | None = None, seed: int = 0) -> list[Case]:
    """Every fault in every architecture that has a place for it."""
    found = []
    for name, build in ARCHITECTURES.items():
        for fault in FAULTS:
            meant = kind in (None, fault.kind) and architecture in (None, name)
            if meant and fault.plant(build(seed)) is not None:
                found.append(Case(name, fault, seed))
    return found


def laboratory(specimen: Specimen) -> Lab:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of an optimizer that is stale: the finding is what counts here
        return Lab(specimen.model, batch=specimen.batch, loss=specimen.loss, optimizer=specimen.optimizer)


def planted(case: Case) -> tuple[Specimen, Lab, Planted]:
    """The specimen with its fault, and a Lab over it: opened before where the fault happens late."""
    specimen = ARCHITECTURES[case.architecture](case.seed)
    if case.fault.late:
        lab = laboratory(specimen)
        lab.snapshot("before")
        answer = case.fault.plant(specimen)
    else:
        answer = case.fault.plant(specimen)
        lab = laboratory(specimen)
    assert answer is not None
    return specimen, lab, answer


def ask(lab: Lab) -> list[Answer]:
    """`lab.diagnose()`, or the causes of the gradient check where this version has no diagnosis."""
    diagnose = getattr(lab, "diagnose", None)
    return answers(diagnose() if diagnose is not None else lab.check_gradients().causes)


@functools.cache
def healthy_loss(architecture: str, seed: int) -> float:
    specimen = ARCHITECTURES[architecture](seed)
    train(specimen)
    return loss_now(specimen)


def trained_loss(specimen: Specimen) -> float:
    try:
        train(specimen)
        return loss_now(specimen)
    except (RuntimeError, ValueError):
        return math.inf


def run(case: Case, repair: bool = True, rivals: bool = True) -> Outcome:
    """Ask about one case, judge the answers, repair and train."""
    outcome = Outcome(case)
    specimen, lab, answer = planted(case)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome.found = ask(lab)
        except WeightLabError as error:
            outcome.error = f"{type(error).__name__}: {error}"
        except Exception as error:  # a crash is an answer too, and it is wrong
            outcome.error = f"crash, {type(error).__name__}: {error}"
    outcome.seconds = time.perf_counter() - start
    hurt = set(answer.victims) if answer.victims is not None else _victims(case)
    outcome.verdict = judge(case.fault.kind, answer, outcome.found, hurt)
    if rivals:
        _rivals(outcome, answer)
    if repair and answer.state and hasattr(lab, "repair_all"):
        outcome.healthy = healthy_loss(case.architecture, case.seed)
        outcome.left = trained_loss(planted(case)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                lab.repair_all()
            except Exception as error:
                outcome.error += f" repair_all: {type(error).__name__}: {error}"
        outcome.repaired = trained_loss(specimen)
    return outcome


def _victims(case: Case) -> set[str]:
    return victims(planted(case)[0], ARCHITECTURES[case.architecture](case.seed))


def _rivals(outcome: Outcome, answer: Planted) -> None:
    case = outcome.case
    kind = case.fault.kind
    alarms = sagemaker(planted(case)[0])
    meant = [place for rule, place in alarms if kind in SPEAKS[rule]]
    outcome.rule_any = bool(alarms)
    outcome.rule_kind = bool(meant)
    outcome.rule_place = any(place and place in answer.places for place in meant)
    if kind in NONFINITE:
        blamed = anomaly(planted(case)[0])
        outcome.anomaly_kind = blamed is not None
        outcome.anomaly_place = kind == "nonfinite_gradient" and blamed is not None and blamed.startswith("Sqrt")


def kinds() -> list[str]:
    return list(dict.fromkeys(fault.kind for fault in FAULTS))
