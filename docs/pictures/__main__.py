"""Draw the pictures of the methods' pages: ``python docs/pictures``, or with names for just these.

Networks are trained on the digits that scikit-learn brings, so that it needs no download. A few minutes on
one core; the same bytes each time on the same machine.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from PIL import Image

import coding
import pruning
import quantization
from featherweight.analysis.plots import THEMES, save_figure
from networks import Networks

IMAGES = Path(__file__).parents[1] / "images" / "methods"

PICTURES = {
    "magnitude": pruning.magnitude,
    "norms": pruning.norms,
    "taylor": pruning.taylor,
    "gates": pruning.gates,
    "sss": pruning.sss,
    "empirical": pruning.empirical,
    "nisp": pruning.nisp,
    "schedules": pruning.schedules,
    "surgery": pruning.surgery,
    "rate": pruning.rate,
    "channels": pruning.channels,
    "kmeans": quantization.kmeans,
    "optimal": quantization.optimal,
    "weighted": quantization.weighted,
    "ecsq": quantization.ecsq,
    "uniform": quantization.uniform,
    "ttq": quantization.ttq,
    "inq": quantization.incremental,
    "output-aware": quantization.output_aware,
    "budget": quantization.budget,
    "coders": coding.coders,
    "huffman": coding.huffman,
    "context": coding.context,
}

#: Colours of a picture: enough for a figure, and a third of the bytes.
COLOURS = 96


def main() -> None:
    """Draw all pictures, or those that are named."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}")
    names = options.parse_args().names or list(PICTURES)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    IMAGES.mkdir(parents=True, exist_ok=True)
    networks = Networks()
    for name in names:
        draw = PICTURES[name](networks)
        for theme in THEMES:
            (path,) = save_figure(draw(theme), IMAGES / f"{name}-{theme.name}", ("png",))
            with Image.open(path) as image:
                small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(path, optimize=True)
        logging.getLogger(__name__).info("%s: %d bytes", name, path.stat().st_size)


if __name__ == "__main__":
    main()
