import os

import pytest
import torch

from sparsecnn.experiment import experiment
from sparsecnn.files import ResultsError
from sparsecnn.models import build
from sparsecnn.training.checkpoints import CheckpointError, load_network, save_network
from sparsecnn.training.train import train

RUN = experiment("digits", "controlled", "SparseConvNet", 0.5, epochs=1, train_images=8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "network.pt"
    train(RUN, "cpu", checkpoint=path)
    return path


def test_a_trained_network_comes_back_with_its_experiment(checkpoint, tmp_path):
    run, network = load_network(checkpoint)
    assert run == RUN and not network.training
    image, mask = torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28) > 0.5
    save_network(tmp_path / "again.pt", run, network)
    _, again = load_network(tmp_path / "again.pt")
    with torch.no_grad():
        assert torch.equal(network(image, mask), again(image, mask))


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE"],)


BROKEN = {
    "missing": lambda good: None,
    "empty": lambda good: b"",
    "cut short": lambda good: good[: len(good) // 2],
    "not a checkpoint": lambda good: b"hello",
}


@pytest.mark.parametrize("harm", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(harm, checkpoint, tmp_path):
    path = tmp_path / "broken.pt"
    content = BROKEN[harm](checkpoint.read_bytes())
    if content is not None:
        path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": {}},
        {"experiment": vars(RUN) | {"model": "Transformer"}},
        {"experiment": vars(RUN) | {"architecture": "mnist_convnet_as_run"}},
        {"weights": {}},
        {
            "weights": {name: value * 0 for name, value in build("ConvNet").state_dict().items()}
            | {"more": torch.ones(1)}
        },
    ],
)
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_it(change, checkpoint, tmp_path):
    path = tmp_path / "odd.pt"
    torch.save(torch.load(checkpoint, weights_only=True) | change, path)
    refused(path)


def test_code_in_a_checkpoint_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTILE", str(tmp_path / "harm"))
    torch.save({"experiment": vars(RUN), "weights": Hostile()}, tmp_path / "hostile.pt")
    refused(tmp_path / "hostile.pt")
    assert not (tmp_path / "harm").exists()


def refused(path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_network(path)
    message = str(error.value)
    assert str(path) in message and "train it anew" in message and "\n" not in message


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="file/network.pt can't be written"):
        save_network(tmp_path / "file/network.pt", RUN, build("SparseConvNet"))
    with pytest.raises(ResultsError, match="file can't be written"):
        train(RUN, "cpu", lambda *_: pytest.fail("trained first"), tmp_path / "file/network.pt")
