"""The handwritten digits that come with scikit-learn: 1,797 grayscale images of 8x8 pixels in 10 classes.

Source: the test half of UCI's Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998).
"""

from importlib.util import find_spec
from pathlib import Path

from ear.data.base import ImageDataset, Split

HELD_OUT = 500


def digits_file() -> Path:
    """The path of scikit-learn's data file, found without importing scikit-learn."""
    spec = find_spec("sklearn")
    assert spec is not None, "a dependency of this package"
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def digits() -> ImageDataset:
    """Load the digits: 1,297 training and 500 held-out images, stratified by class; pixels 0..16 scaled to 0..255."""
    # Importing these takes seconds, so they are imported only when they are needed.
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = torch.from_numpy((bunch.images * (255 / 16)).round().astype("uint8")).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype("int64"))
    train, test = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=bunch.target, random_state=0)
    return ImageDataset(
        name="digits",
        classes=10,
        train=Split(pixels[train], labels[train]),
        test=Split(pixels[test], labels[test]),
    )
