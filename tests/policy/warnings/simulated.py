"""A trainer's hours in a moment: what the policy sees of it, look by look."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.actions import Action, Note
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State
from fred_supervisor.policy.warnings.machine import MachineLook
from fred_supervisor.policy.watch import HeartbeatReading, begin
from fred_supervisor.words.sentences import sentence


@dataclass
class Simulated:
    """Trains at `speed(now_s)` samples a second with noise; evaluates and saves after each epoch."""

    speed: Callable[[float], float] = lambda now_s: 20.0
    batch: int = 8
    steps: int = 300
    noise: float = 0.1
    eval_every: int = 1
    eval_s: float = 90.0
    save_s: float = 8.0
    samples_told: bool = True
    phase: str = "freeze"
    machine: Callable[[float], MachineLook | None] = lambda now_s: None
    settings: Settings = field(default_factory=Settings)
    history: RunHistory = field(default_factory=RunHistory)
    seed: int = 0

    def __post_init__(self) -> None:
        self.now_s, self.samples, self.epoch, self.step = 1000.0, 0, 1, 0
        self.dice = random.Random(self.seed)
        self.state: State = Running(history=self.history, watch=begin(self.now_s), since_s=self.now_s)
        self.actions: list[tuple[float, Action]] = []
        self._seq = 0
        self._looked_s = self.now_s

    @property
    def told(self) -> list[tuple[float, str, str]]:
        """When a warning began or ended, which kind, and its sentence; seconds since the launch."""
        return [
            (at_s - 1000.0, ("" if a.message.topic is Topic.WARNING else "no longer ") + a.message.facts["kind"], sentence(a.message))
            for at_s, a in self.actions
            if isinstance(a, Note) and a.message.topic in (Topic.WARNING, Topic.WARNING_OVER)
        ]  # fmt: skip

    @property
    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.told]

    def train(self, hours: float) -> "Simulated":
        end_s = self.now_s + hours * 3600
        while self.now_s < end_s and isinstance(self.state, Running):
            took_s = self.batch / max(1e-6, self.speed(self.now_s - 1000.0)) * self.dice.lognormvariate(0, self.noise)
            self.step += 1
            self.samples += self.batch
            self._pass(took_s, Section.TRAIN)
            if self.step == self.steps:
                if self.epoch % self.eval_every == 0:
                    self._pass(self.eval_s, Section.EVAL)
                self._pass(self.save_s, Section.CHECKPOINT)
                self.epoch, self.step = self.epoch + 1, 0
                self._pass(0.0, Section.TRAIN)
        return self

    def _pass(self, took_s: float, section: Section) -> None:
        """Time goes by; the supervisor looks every few seconds."""
        if section is not Section.TRAIN or took_s == 0.0:
            self._seq += 1
            self._look(section)
        self.now_s += took_s
        self._seq += 1
        if self.now_s - self._looked_s >= 3.0:
            self._look(section)

    def _look(self, section: Section, **seen: Any) -> None:
        self._looked_s = self.now_s
        samples = self.samples if self.samples_told else None
        one = beat(
            epoch=self.epoch, step=self.step, steps=self.steps, samples=samples, seq=self._seq, section=section,
            phase=self.phase, loss=3.0 / (1 + self.epoch) ** 0.3 * self.dice.lognormvariate(0, 0.05),
        )  # fmt: skip
        machine = self.machine(self.now_s - 1000.0)
        observed = Observation(
            now_s=self.now_s, time=f"{self.now_s - 1000:.0f}", machine=machine,
            looks=(HeartbeatReading(stamp=str(self._seq), beat=one),), **seen,
        )  # fmt: skip
        self.state, actions = decide(self.settings, self.state, observed)
        self.actions += [(self.now_s, action) for action in actions]
