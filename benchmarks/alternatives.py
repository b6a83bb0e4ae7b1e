"""What an image of Caltech-101's size costs, way by way: each network's output for it, and what fills its missing
pixels before a network sees them, half of them missing. On one CPU thread; pictures are noise, which cost the same.

Writes results/benchmarks_alternatives.csv.
"""

import pandas as pd
import torch
from profile_step import milliseconds
from training import name_of

from sparsecnn.data.inpainting import METHODS
from sparsecnn.data.masks import bernoulli_mask
from sparsecnn.files import output_root, replacing
from sparsecnn.models import NETWORKS, build

IMAGES = 16


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    mask = bernoulli_mask(IMAGES, 224, 224, 0.5, generator)
    image = torch.randn(IMAGES, 3, 224, 224, generator=generator).contiguous(memory_format=torch.channels_last)
    lines = []
    with torch.inference_mode():
        for model in NETWORKS:
            network = build(model, "caltech").to(memory_format=torch.channels_last).eval()
            lines.append(("network", model, milliseconds(lambda network=network: network(image, mask), "cpu") / IMAGES))
    pixels = torch.randint(256, (IMAGES, 3, 224, 224), dtype=torch.uint8, generator=generator).numpy()
    for fill, method in METHODS.items():
        took = milliseconds(lambda method=method: method(pixels, mask.numpy()), "cpu")
        lines.append(("fill", fill, took / IMAGES))
    table = pd.DataFrame(lines, columns=["part", "way", "milliseconds_an_image"]).round(2)
    table = table.assign(device=name_of("cpu", "1 thread"), torch=torch.__version__)
    print(table.to_string(index=False))
    with replacing(output_root() / "results/benchmarks_alternatives.csv") as file:
        table.to_csv(file, index=False)


if __name__ == "__main__":
    main()
