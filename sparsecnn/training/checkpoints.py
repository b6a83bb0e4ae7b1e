"""A trained network in a file, together with the Experiment that it comes from."""

from dataclasses import asdict
from pathlib import Path

import torch

from ..checks import SettingError
from ..experiment import Experiment, check_experiment
from ..files import replacing
from ..models import Network, build

__all__ = ["CheckpointError", "load_network", "save_network"]


class CheckpointError(RuntimeError):
    """A file that holds no network of this package. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def save_network(path: str | Path, experiment: Experiment, network: Network) -> None:
    """Writes the network's weights and the Experiment's settings; a file that is there is replaced as a whole.

    Raises:
        ResultsError: where it can't be written.
    """
    check_experiment(experiment)
    with replacing(Path(path)) as file:
        torch.save({"experiment": asdict(experiment), "weights": network.state_dict()}, file)


def load_network(path: str | Path) -> tuple[Experiment, Network]:
    """What :func:`save_network` wrote; the network on the CPU, in evaluation mode. No code in the file is ever run.

    Raises:
        CheckpointError: for a file that is missing, cut short, altered or another program's; it names the file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        experiment = Experiment(**content["experiment"])
        network = build(experiment.model, experiment.architecture)
        network.load_state_dict(content["weights"])
    except Exception as error:  # of as many kinds as there are ways to be wrong
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{path} holds no network of this version ({reason}): train it anew, with train(..., checkpoint=...)"
        ) from error
    return experiment, network.eval()
