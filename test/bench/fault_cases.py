"""Run attacks on the commands of the chain, one case after the other, and collect the failures."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fault_commands import COMMANDS, Command, Job, start
from fault_workspace import Workspace

REPLACING = ("export", "bins", "inference", "report", "test", "embed")  # all other commands continue existing files
EQUAL_SHARES = dict.fromkeys((name for name in COMMANDS if name != "training, 2 processes"), 1)


@dataclass
class Case:
    """One attack on one command, in a trial folder that contains the inputs of the command.

    name: name of the command or of the kind of attack.
    position: a number from 0 to 1. The numbers of all cases with the same name are spread evenly.
    draw: random numbers of the attack.
    had_output: the trial folder also contains the outputs of an earlier run.
    what: description of the attack for the message of a failure. The attack sets it.
    """

    workspace: Workspace
    name: str
    command: Command
    position: float
    draw: random.Random
    had_output: bool
    what: str = ""

    def start(self, **options) -> Job:
        return start(self.command, self.workspace.trial, **options)

    def check_end(self, job: Job, *allowed: int) -> None:
        """Check exit status, error message and files of a command of one process that could still report an error."""
        [status], text = job.wait(), job.stderr()
        assert "Traceback" not in text, f"traceback: {text[-700:]}"
        assert status in allowed, f"status {status}: {text[-300:]}"
        errors = [line for line in text.splitlines() if line.startswith("error:")]
        assert status != 1 or len(errors) == 1, f"{len(errors)} error lines: {text[-300:]}"
        self.workspace.check_files(self.command, self.had_output, finished=status == 0)


def run_cases(
    workspace: Workspace, shares: Mapping[str, float], count: int, seed: int, attack: Callable[[Case], None],
    commands: Mapping[str, Command] = COMMANDS,
) -> dict:  # fmt: skip
    """Run `count` cases. Returns the number of cases per name, and descriptions of the failures.

    Args:
        shares: relative number of cases per name. If `count` is small, some names get no case.
        attack: runs a case, and raises an exception if the case fails.
        commands: the command of each name.
    """
    draw = random.Random(seed)
    numbers = {name: int(count * share / sum(shares.values())) for name, share in shares.items()}
    for name in draw.sample(list(shares), k=min(len(shares), count - sum(numbers.values()))):
        numbers[name] += 1
    failures: list[str] = []
    for name, number in numbers.items():
        for place in range(number):
            had_output = name in REPLACING and draw.random() < 0.5
            case = Case(workspace, name, commands[name], (place + draw.random()) / number, draw, had_output)
            workspace.reset(case.command, keep=had_output)
            try:
                attack(case)
            except Exception as error:
                failures.append(f"{name}: {case.what}: {error or repr(error)}")
                print(failures[-1], flush=True)
        if number:
            print(f"{name}: {number} cases", flush=True)
    return {"cases": {name: number for name, number in numbers.items() if number}, "failures": failures}
