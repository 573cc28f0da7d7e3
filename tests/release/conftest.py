from __future__ import annotations

from pathlib import Path

import pytest
from small_dataset import Dataset, jpeg, row, sample, write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Seven samples in three splits; two rows dropped by yaw, one each by the adult gate and nsfw, one failed."""
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"]
    samples = [(sample(f"p{i}", split), jpeg()) for i, split in enumerate(splits)]
    turned = {"reason": "yaw", "threshold": 45.0, "face": 0, "face_px": 90.0, "score": 0.8}
    unread = {"width": 0, "height": 0, "n_faces": 0}
    lost = [
        row("folder/turned-1.jpg", **turned, value=60.0, yaw=60.0),
        row("folder/turned-2.jpg", **turned, value=-50.0, yaw=-50.0),
        row("folder/child.jpg", reason="adult", value=12.0, threshold=35.0, face=0, age=12.0),
        row("folder/bare.jpg", reason="nsfw", value=0.9, threshold=0.5),
        row("folder/broken.jpg", "failed", reason="truncated", detail="broken.jpg ends early", **unread),
    ]
    return write_dataset(tmp_path, samples, lost)
