"""Write resnet_spec/data/digits.npz, the embedded dataset, from scikit-learn's `load_digits`.

    pip install scikit-learn && python scripts/make_digits.py

The 1797 images are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak
1998, UCI repository, CC BY 4.0): 8 x 8 pixels of 0..16. Stored as they are; `data/digits.py` scales
them. A fifth of every class is the test split, drawn with `SPLIT_SEED`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]

from resnet_spec.data.draws import Stream, words
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.files.writing import replacing

OUT = Path(__file__).parents[1] / "resnet_spec" / "data" / "digits.npz"
SPLIT_SEED = 0


def in_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choose every fifth image of those sorted by (class, random word): 360 of 1797."""
    shuffled = np.lexsort((words(SPLIT_SEED, 0, Stream.SPLIT, len(labels)), labels))
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[shuffled[::5]] = True
    return chosen


def main() -> None:
    flat, target = load_digits(return_X_y=True)
    images = np.asarray(flat).astype(np.uint8).reshape(-1, 8, 8)
    labels = np.asarray(target).astype(np.int64)
    assert len(images) == 1797 and images.max() == 16
    assert (images.reshape(flat.shape) == flat).all()
    test = in_test(labels)
    scaled = (images[~test, :, :, None].astype(np.uint16) * 255 + 8) // 16
    (mean,), (std,) = channel_statistics(scaled.astype(np.uint8))
    with replacing(OUT) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, images=images, labels=labels.astype(np.uint8), test=test, mean=mean, std=std
        )
    print(
        f"{OUT}: {(~test).sum()} training and {test.sum()} test images, mean {mean:.6f}, "
        f"std {std:.6f}, {OUT.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
