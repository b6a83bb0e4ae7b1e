"""What lies in a batch where pixels are missing and where they are not, before and after it is normalised."""

import pytest
import torch

from sparsecnn.data.inpainting import METHODS
from sparsecnn.data.masks import exact_count_mask
from sparsecnn.experiment import experiment
from sparsecnn.training.batches import Batches, EnsembleBatches, FixedMaskBatches

CPU = torch.device("cpu")
COLOURS = {"black": lambda data: 0.0, "grey": lambda data: 0.5, "mean": lambda data: column(data.mean)}


def column(values):
    return torch.tensor(values).view(-1, 1, 1)


def source(data, dataset, sparsity=0.5, seed=0, **changes):
    run = experiment(dataset, "controlled", "ConvNet", sparsity, seed, **changes)
    return (Batches if dataset == "digits" else FixedMaskBatches)(data, run, CPU)


@pytest.fixture(params=["digits", "shapes"])
def of(request):
    """A data set's name and a few of its images."""
    return request.param, request.getfixturevalue("digits" if request.param == "digits" else "drawings")


def batch_of(of, seed=0, **changes):
    """Images and mask of one batch, an image in it twice, and the numbers of its images."""
    dataset, data = of
    chosen = torch.tensor([5, 61, 2, 61])
    image, mask, label = source(data, dataset, seed=seed, **changes)(chosen, torch.Generator().manual_seed(seed))
    assert torch.equal(label, data.labels[chosen])
    return image, mask, chosen


@pytest.mark.parametrize("fill", COLOURS)
def test_missing_pixels_have_the_colour_and_observed_ones_are_as_they_were(of, fill):
    _, data = of
    image, mask, chosen = batch_of(of, fill=fill)
    pixels = image * column(data.std) + column(data.mean)  # before they were normalised
    colour = torch.as_tensor(COLOURS[fill](data)).expand_as(pixels)
    torch.testing.assert_close(pixels, torch.where(mask, data.images[chosen] / 255, colour), rtol=0, atol=1e-6)
    plain, same, _ = batch_of(of)
    assert torch.equal(mask, same) and 0.45 < mask.float().mean() < 0.55
    torch.testing.assert_close(image * mask, plain * mask, rtol=0, atol=1e-6)


def test_normalised_the_mean_colour_is_exactly_0_and_no_other_is(of):
    for fill in COLOURS:
        image, mask, _ = batch_of(of, fill=fill)
        missing = image[~mask.expand_as(image)]
        assert missing.eq(0).all() if fill == "mean" else missing.ne(0).all()


@pytest.mark.parametrize(("of", "fill"), [("digits", "black"), ("shapes", "mean")], indirect=["of"])
def test_a_data_sets_own_colour_changes_nothing_when_it_is_named(of, fill):
    assert torch.equal(batch_of(of, fill=fill)[0], batch_of(of)[0])


@pytest.mark.parametrize("fill", ["own", *COLOURS])
def test_inverted_images_are_white_less_what_they_were_and_missing_pixels_have_the_same_colour(digits, fill):
    image, mask, chosen = batch_of(("digits", digits), fill=fill, images="inverted")
    mean = 1 - digits.mean[0]  # of inverted images
    colour = {"own": 0.0, "black": 0.0, "grey": 0.5, "mean": mean}[fill]
    pixels = torch.where(mask, 1 - digits.images[chosen] / 255, colour)
    torch.testing.assert_close(image, (pixels - mean) / digits.std[0], rtol=1e-5, atol=1e-5)
    assert (image[~mask] == 0).all() == (fill == "mean")
    plain, same, _ = batch_of(("digits", digits))  # inverted ones that are held leave no trace in others
    assert torch.equal(mask, same)
    torch.testing.assert_close(plain[mask], -image[mask], rtol=1e-5, atol=1e-5)
    assert plain[~mask].unique().tolist() == [pytest.approx(-digits.mean[0] / digits.std[0])]


@pytest.mark.parametrize("fill", METHODS)
def test_what_is_filled_from_around_is_filled_before_it_is_normalised(of, fill):
    _, data = of
    image, mask, chosen = batch_of(of, fill=fill)
    filled = torch.from_numpy(METHODS[fill](data.images[chosen].numpy(), mask.numpy()))
    if of[0] == "shapes":  # is kept in whole numbers
        filled = filled.round()
    torch.testing.assert_close(image, (filled / 255 - column(data.mean)) / column(data.std), rtol=1e-5, atol=1e-5)
    plain = batch_of(of)[0]
    torch.testing.assert_close(image * mask, plain * mask, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fill", METHODS)
def test_inverted_images_are_inverted_before_they_are_filled(digits, fill):
    image, mask, chosen = batch_of(("digits", digits), fill=fill, images="inverted")
    filled = torch.from_numpy(METHODS[fill](255 - digits.images[chosen].numpy(), mask.numpy()))
    expected = (filled / 255 - (1 - digits.mean[0])) / digits.std[0]
    torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fill", METHODS)
def test_what_is_kept_of_filled_images_is_what_would_be_filled_anew(drawings, fill):
    def made(**changes):
        return source(drawings, "shapes", fill=fill, **changes)

    kept, parts = made(), (torch.tensor([3, 8, 3]), torch.tensor([8, 20, 3, 41]), torch.tensor([41]))
    first = [kept(part, None) for part in parts]
    again = [kept(part, None) for part in reversed(parts)][::-1]
    anew = [made()(part, None) for part in parts]
    for batch, *others in zip(first, again, anew, strict=True):
        assert all(torch.equal(*same) for other in others for same in zip(batch, other, strict=True))

    # Other masks for the same images: those of another seed, another sparsity, and of a test elsewhere.
    (chosen,) = parts[:1]
    image, mask, _ = first[0]
    for other in (made(seed=1), made(sparsity=0.7)):
        there, mask_there, _ = other(chosen, None)
        filled = torch.from_numpy(METHODS[fill](drawings.images[chosen].numpy(), mask_there.numpy())).round()
        expected = (filled / 255 - column(drawings.mean)) / column(drawings.std)
        torch.testing.assert_close(there, expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(mask_there, mask) and not torch.equal(there, image)
        elsewhere = kept.masked(chosen, mask_there)[0]
        torch.testing.assert_close(elsewhere, there, rtol=0, atol=0.51 / 255 / min(drawings.std))
    assert all(map(torch.equal, kept(chosen, None), first[0]))


def test_missing_pixels_do_not_shine_through(of):
    dataset, data = of
    chosen, mask = torch.tensor([5, 61]), batch_of(of)[1][:2]
    altered = type(data)(**vars(data) | {"images": data.images.clone()})
    altered.images[chosen] = torch.where(mask, data.images[chosen], 255 - data.images[chosen])
    for fill in ("own", *COLOURS, *METHODS):
        here, there = (source(each, dataset, fill=fill).masked(chosen, mask)[0] for each in (data, altered))
        assert torch.equal(here, there)


@pytest.mark.parametrize("changes", [{"fill": "grey"}, {"fill": "mean"}, {"images": "inverted"}])
def test_runs_that_train_together_have_what_each_has_alone(digits, changes):
    runs = [experiment("digits", "controlled", "ConvNet", 0.5, seed, **changes) for seed in (0, 1)]
    chosen = torch.tensor([[5, 61], [7, 5]])
    mask = exact_count_mask(4, 28, 28, 0.5, torch.Generator().manual_seed(0)).unflatten(0, (2, 2))
    together = EnsembleBatches(digits, runs, CPU).masked(chosen, mask)
    for place, run in enumerate(runs):
        alone = EnsembleBatches(digits, [run], CPU).masked(chosen[place : place + 1], mask[place : place + 1])
        assert all(torch.equal(one[0], of_all[place]) for one, of_all in zip(alone, together, strict=True))
