"""Losses and metrics against the definitions, image by image in float64; only what was not given is scored."""

import math

import numpy as np
import pytest
import torch

from sparsecnn.tasks import CLASSIFICATION, DEPTH
from sparsecnn.training.objectives import FARTHEST, NEAREST, depth_errors, objective_of


def scans(seed=0, runs=2, count=3, size=(5, 8)):
    """Answers in metres, scans of which a fifth of the cells has no return, and what of them was given."""
    random = np.random.default_rng(seed)
    scan = random.uniform(1.5, 80, (runs, count, 1, *size)) * (random.random((runs, count, 1, *size)) < 0.8)
    given = (random.random(scan.shape) < 0.4) & (scan > 0)
    output = random.uniform(-5, 150, scan.shape)
    return torch.from_numpy(output), torch.from_numpy(scan), torch.from_numpy(given)


def test_errors_of_depth_are_those_of_kittis_devkit_over_what_was_not_given():
    output, scan, given = scans()
    found = depth_errors(output, scan, given)
    for run in range(2):
        for image in range(3):
            pairs = [
                (min(max(float(answer), NEAREST), FARTHEST), float(truth))
                for answer, truth, known in zip(
                    output[run, image].flatten(), scan[run, image].flatten(), given[run, image].flatten(), strict=True
                )
                if truth > 0 and not known
            ]
            far = [answer - truth for answer, truth in pairs]
            inverse = [1000 / answer - 1000 / truth for answer, truth in pairs]
            expected = [
                value
                for errors in (far, inverse)
                for value in (
                    sum(map(abs, errors)) / len(errors),
                    math.sqrt(sum(error**2 for error in errors) / len(errors)),
                )
            ]
            assert found[run, image].tolist() == pytest.approx(expected, rel=1e-12)


def test_answers_are_counted_between_1_and_120_metres_and_scans_from_1():
    output = torch.tensor([-3.0, 0.5, 1.5, 119.5, 500.0]).view(1, 5, 1, 1, 1)
    far = depth_errors(output, torch.full_like(output, 10.0), torch.zeros_like(output, dtype=torch.bool))[0, :, 0]
    assert far.tolist() == [9, 9, 8.5, 109.5, 110]
    near = depth_errors(output, torch.full_like(output, 0.8), torch.zeros_like(output, dtype=torch.bool))[0, :, 0]
    assert near.tolist() == [0, 0, 0.5, 118.5, 119]


def test_a_return_nearer_than_a_metre_is_one():
    scan = torch.tensor([0.8, 0.0, 4.0, 0.0]).view(1, 1, 1, 2, 2)
    output, none = torch.full_like(scan, 10.0), torch.zeros_like(scan, dtype=torch.bool)
    losses = objective_of("kitti_range", 3).losses
    assert {name: float(loss(output, scan)) for name, loss in losses.items()} == pytest.approx(
        {"absolute error": (9.2 + 6) / 2, "squared error": (9.2**2 + 6**2) / 2,
         "absolute error of inverse depth": (0.9 + 0.15) / 2}
    )  # fmt: skip
    assert depth_errors(output, scan, none)[0, 0].tolist() == pytest.approx(
        [(9 + 6) / 2, math.sqrt((9**2 + 6**2) / 2), (900 + 150) / 2, math.sqrt((900**2 + 150**2) / 2)]
    )


def test_a_score_is_the_tasks_first_metric_an_image():
    output, scan, given = scans()
    depth = objective_of("kitti_range", 3)
    assert DEPTH.metrics[0] == "mae" and depth.score(output, scan, given).shape == (2, 3)
    assert torch.equal(depth.score(output, scan, given), depth.tally(output, scan, given)[..., 0])

    scores = torch.tensor([[[0.0, 2, 1], [5, 4, 3]], [[0, 1, 2], [1, 0, 0]]])  # 1 and 0; 2 and 0
    label = torch.tensor([[1, 2], [2, 0]])
    digits = objective_of("digits", 3)
    assert digits.score(scores, label, None).tolist() == [[True, False], [True, True]]
    assert digits.tally(scores, label, None).tolist() == [[[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0]]]


def test_nearer_than_a_metre_the_inverse_goes_on_along_its_line():
    output = torch.tensor([2.0, 1.0, 0.5, 0.0, -50.0]).view(1, 5, 1, 1, 1)
    loss = objective_of("kitti_range", 3).losses["absolute error of inverse depth"]
    found = loss(output, torch.full_like(output, 10.0))
    assert found[0].tolist() == pytest.approx([0.4, 0.9, 1.4, 1.9, 51.9])
    assert loss(output, torch.full_like(output, 0.5))[0].tolist() == pytest.approx([0.5, 0, 0.5, 1, 51])


def test_who_copies_what_was_given_gains_nothing():
    _, scan, given = scans()
    copied = torch.where(given, scan, 30.0)
    assert torch.equal(depth_errors(copied, scan, given), depth_errors(torch.full_like(scan, 30.0), scan, given))


def test_a_scan_of_which_nothing_is_asked_adds_no_error():
    output, scan, _ = scans()
    assert depth_errors(output, scan, scan > 0).count_nonzero() == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("absolute error", lambda answer, truth: abs(answer - truth)),
        ("squared error", lambda answer, truth: (answer - truth) ** 2),
        ("absolute error of inverse depth", lambda answer, truth: abs(1 / answer - 1 / truth)),
    ],
)
def test_losses_are_means_over_a_scans_returns(name, error):
    output, scan, _ = scans()
    output = output.clamp(min=2)
    found = objective_of("kitti_range", 3).losses[name](output, scan)
    for run in range(2):
        for image in range(3):
            pairs = zip(output[run, image].flatten().tolist(), scan[run, image].flatten().tolist(), strict=True)
            errors = [error(answer, truth) for answer, truth in pairs if truth > 0]
            assert float(found[run, image]) == pytest.approx(sum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize("name", DEPTH.losses)
def test_losses_lead_back_from_answers_that_no_scanner_gives(name):
    scan = torch.full((1, 1, 1, 2, 2), 10.0)
    for answer in (-50.0, 0.0, 0.5, 200.0):
        output = torch.full_like(scan, answer, requires_grad=True)
        objective_of("kitti_range", 3).losses[name](output, scan).sum().backward()
        towards = -output.grad.sum()
        assert float(towards) * (10 - answer) > 0


def test_means_are_in_the_tasks_units_with_four_decimals():
    of_images, of_scans = objective_of("digits", 2), objective_of("street", 3)
    assert of_images.means([1, 0], 3) == [33.3333] and of_images.details([1, 0]) == "1 0"
    assert of_scans.means([3.0, 6.0, 1.0, 2.0], 3) == [1.0, 2.0, 0.3333, 0.6667] and of_scans.details([1.0]) is None
    for objective, task in ((of_images, CLASSIFICATION), (of_scans, DEPTH)):
        assert len(objective.means([], 0)) == len(task.metrics) and np.isnan(objective.means([], 0)).all()
        assert tuple(objective.losses) == task.losses
