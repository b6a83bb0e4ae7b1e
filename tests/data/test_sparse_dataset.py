"""SparseDataset: what comes in as an image, what comes out, and which masks."""

import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sparsecnn import SparseDataset
from sparsecnn.checks import SettingError


class Pictures(Dataset):
    """Eight random images without a black pixel, so that a 0 is a dropped one; the label is ten times the index."""

    def __init__(self, kind):
        shape = (8, 12, 10, 3) if kind == "RGB" else (8, 12, 10)
        pixels = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
        self.images = [Image.fromarray(image) for image in pixels]
        if kind == "bytes":
            self.images = list(torch.from_numpy(pixels)[:, None])
        if kind == "tensor":
            self.images = list(torch.from_numpy(pixels).double()[:, None].expand(-1, 4, -1, -1) / 7)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], 10 * index


def masks_of(dataset):
    return torch.stack([dataset[i][1] for i in range(len(dataset))])


@pytest.mark.parametrize("scheme", ["exact", "bernoulli"])
@pytest.mark.parametrize(("kind", "channels"), [("L", 1), ("RGB", 3), ("bytes", 1), ("tensor", 4)])
def test_dropped_pixels_are_0_in_all_channels_and_the_others_are_kept(kind, channels, scheme):
    pictures = Pictures(kind)
    dataset = SparseDataset(pictures, 0.3, scheme)
    assert len(dataset) == 8
    for i in range(8):
        image, mask, label = dataset[i]
        original = pictures.images[i]
        if kind != "tensor":
            original = torch.from_numpy(np.asarray(original).copy()).view(12, 10, channels).permute(2, 0, 1) / 255
        assert image.shape == (channels, 12, 10) and image.dtype == torch.float32
        assert mask.shape == (1, 12, 10) and mask.dtype == torch.bool
        assert torch.equal(image, original.float() * mask)
        assert label == 10 * i
        if scheme == "exact":
            assert (~mask).sum() == 36
    missing = [int((~mask).sum()) for mask in masks_of(dataset)]
    assert min(missing) > 15 and max(missing) < 60  # five standard deviations of a Bernoulli mask's count
    assert (len(set(missing)) == 1) == (scheme == "exact")


def test_a_transform_comes_after_the_pixels_are_dropped():
    image, mask, _ = SparseDataset(Pictures("RGB"), 0.5, transform=lambda image: 2 * image - 1)[0]
    assert torch.equal(image == -1, ~mask.expand_as(image))


@pytest.mark.parametrize("scheme", ["exact", "bernoulli"])
def test_a_seed_gives_each_image_one_mask_of_its_own(scheme):
    dataset = SparseDataset(Pictures("L"), 0.5, scheme, seed=3)
    state = torch.get_rng_state()
    masks = masks_of(dataset)
    assert torch.equal(torch.get_rng_state(), state)  # the training's random numbers stay what they are
    assert torch.equal(masks_of(dataset), masks)
    assert len(masks.flatten(1).unique(dim=0)) == 8
    # Neighbouring seeds don't hand one another's masks on.
    neighbour = masks_of(SparseDataset(Pictures("L"), 0.5, scheme, seed=4))
    assert len(torch.cat([masks, neighbour]).flatten(1).unique(dim=0)) == 16


def test_an_index_from_the_end_reads_the_same_image_with_the_same_mask():
    dataset = SparseDataset(Pictures("L"), 0.5, seed=3)
    assert all(map(torch.equal, dataset[-1][:2], dataset[7][:2]))


def test_without_a_seed_every_read_draws_a_new_mask():
    dataset = SparseDataset(Pictures("L"), 0.5)
    assert len(torch.cat([masks_of(dataset), masks_of(dataset)]).flatten(1).unique(dim=0)) == 16


@pytest.mark.parametrize(("seed", "different"), [(None, 16), (0, 8)])
def test_with_workers_two_epochs_differ_unless_there_is_a_seed(seed, different):
    loader = DataLoader(SparseDataset(Pictures("L"), 0.5, seed=seed), batch_size=2, num_workers=2)
    masks = torch.cat([mask for _ in range(2) for _, mask, _ in loader])
    assert len(masks) == 16
    assert len(masks.flatten(1).unique(dim=0)) == different


@pytest.mark.parametrize(
    ("setting", "value"),
    [("sparsity", bad) for bad in (-0.1, 1.1, float("nan"), 30)]
    + [("scheme", "gauss"), ("seed", 1.5), ("seed", True), ("seed", -1)],
)
def test_a_bad_setting_is_refused_in_one_line_that_names_it(setting, value):
    with pytest.raises(SettingError, match=rf"^{setting}={re.escape(repr(value))} .*$"):
        SparseDataset(Pictures("L"), **{"sparsity": 0.5, setting: value})


def read(item, **settings):
    """The first item of a data set that holds nothing else, all of it observed."""
    return SparseDataset([item], 0, **settings)[0]


PIXELS = np.arange(5 * 6 * 4).reshape(5, 6, 4)  # more rows and columns than an image has channels


@pytest.mark.parametrize(
    ("mode", "channels"),
    [
        ("1", 1),
        ("L", 1),
        ("P", 3),
        ("RGB", 3),
        ("RGBA", 4),
        ("CMYK", 4),
        ("YCbCr", 3),
        ("LA", 2),
        ("HSV", 3),
        ("LAB", 3),
    ],
)
def test_every_mode_of_bytes_comes_out_in_0_to_1(mode, channels):
    picture = Image.fromarray(PIXELS[..., :3].astype(np.uint8) * 2)
    picture = picture.convert("L").convert(mode) if mode in ("1", "LA") else picture.convert(mode)
    image, mask, label = read((picture, 3))
    assert image.shape == (channels, 5, 6) and image.dtype == torch.float32 and mask.all() and label == 3
    wanted = torch.from_numpy(np.array(picture.convert("RGB") if mode == "P" else picture).reshape(5, 6, -1))
    wanted = wanted.float() / (1 if mode == "1" else 255)
    torch.testing.assert_close(image, wanted.permute(2, 0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bits_come_out_in_0_to_1_and_keep_their_order(mode, tmp_path):
    depth = np.array([[0, 1], [40000, 65535]], dtype=np.uint16)
    picture = Image.frombytes(mode, (2, 2), depth.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    if mode == "I;16":  # as KITTI's depth lies on the disk
        picture.save(tmp_path / "depth.png")
        picture = Image.open(tmp_path / "depth.png")
    for given in (picture, depth, torch.from_numpy(depth), torch.from_numpy(depth)[None]):
        image, *_ = read((given, 0))
        torch.testing.assert_close(image, torch.from_numpy(depth / 65535).float()[None])


def test_floats_keep_their_unit_and_come_out_as_float32():
    metres = torch.linspace(-3, 80, 30).view(1, 5, 6)
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        image, *_ = read((metres.to(kind), 0))
        assert image.dtype == torch.float32 and torch.equal(image, metres.to(kind).float())
    image, *_ = read((Image.fromarray(metres[0].numpy()), 0))
    assert torch.equal(image, metres)


def test_an_arrays_channels_are_told_from_rows_and_columns_or_it_is_refused():
    by_hand = torch.from_numpy(PIXELS[..., :3].astype(np.uint8)).permute(2, 0, 1) / 255
    for array in (PIXELS[..., :3], PIXELS[..., :3].transpose(2, 0, 1)):
        assert torch.equal(read((array.astype(np.uint8), 0))[0], by_hand)
    assert read((PIXELS[..., 0].astype(np.uint8), 0))[0].shape == (1, 5, 6)
    for array in (np.ones((3, 6, 3), np.uint8), np.ones((5, 6, 7), np.uint8)):
        with pytest.raises(SettingError, match=re.escape(f"shape {array.shape} and dtype uint8 is not allowed")):
            read((array, 0))


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (torch.full((1, 4, 4), 255), "shape (1, 4, 4) and dtype torch.int64"),
        (torch.ones(1, 4, 4, dtype=torch.int16), "shape (1, 4, 4) and dtype torch.int16"),
        (torch.ones(1, 4, 4, dtype=torch.complex64), "dtype torch.complex64"),
        (np.ones((4, 4, 3), np.int32), "shape (4, 4, 3) and dtype int32"),
        (np.ones((4, 4, 3), "U1"), "shape (4, 4, 3) and dtype <U1"),
        (Image.fromarray(np.ones((4, 4), np.int32)), "mode I, shape (4, 4) and dtype int32"),
        (torch.ones(4), "shape (4,) and dtype torch.float32"),
        (torch.ones(2, 1, 4, 4), "shape (2, 1, 4, 4) and dtype torch.float32"),
        (torch.ones(1, 0, 4), "shape (1, 0, 4) and dtype torch.float32"),
        ("a.png", "type str"),
        (None, "type NoneType"),
    ],
)
def test_any_other_image_is_refused_in_one_line(item, named):
    with pytest.raises(SettingError, match=rf"^dataset\[0\] of .*{re.escape(named)}.* is not allowed.*$"):
        read((item, 0))


def test_a_dict_is_refused_with_its_keys():
    with pytest.raises(SettingError, match=r"^dataset\[0\] with the keys \['image', 'label'\] is not allowed: a tuple"):
        read({"image": torch.ones(1, 4, 4), "label": 0})


def test_labels_of_any_kind_and_number_pass_through():
    boxes = {"boxes": [1, 2], "label": "cat"}
    for labels in ((), (7,), (boxes,), ("a", None), (torch.ones(3), 1, 2)):
        image, mask, *found = SparseDataset([(torch.ones(1, 4, 4), *labels)], 0.5)[0]
        assert len(found) == len(labels) and all(a is b for a, b in zip(found, labels, strict=True))
    assert len(SparseDataset([torch.ones(1, 4, 4)], 0.5)[0]) == 2


def test_targets_and_classes_are_the_data_sets():
    pictures = Pictures("L")
    pictures.targets, pictures.classes = [10 * i for i in range(8)], ["a", "b"]
    dataset = pickle.loads(pickle.dumps(SparseDataset(pictures, 0.5)))
    assert dataset.targets == pictures.targets and dataset.classes == ["a", "b"]
    with pytest.raises(AttributeError, match="class_to_idx"):
        dataset.class_to_idx  # noqa: B018
    with pytest.raises(AttributeError, match="SparseDataset.*anything"):
        dataset.anything  # noqa: B018


def test_what_comes_before_sees_the_data_sets_own_image():
    dataset = SparseDataset(
        Pictures("RGB"), 0.5, before=lambda picture: picture.resize((20, 24), Image.Resampling.NEAREST)
    )
    image, mask, _ = dataset[0]
    assert image.shape == (3, 24, 20) and (~mask).sum() == 240 and (image == 0).sum() == 720


@pytest.mark.parametrize("name", ["transform", "before"])
def test_what_can_not_be_called_is_refused(name):
    with pytest.raises(SettingError, match=rf"^{name}=3 is not allowed"):
        SparseDataset(Pictures("L"), 0.5, **{name: 3})


def test_a_data_set_without_numbers_is_refused():
    with pytest.raises(SettingError, match="^dataset=<generator.* is not allowed"):
        SparseDataset((image for image in Pictures("L")), 0.5)
