"""The picture of the README: the samples of a small dataset with their captions.

python tools/contact_sheet.py SHARDS docs/contact-sheet.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from unif2ace_data.release.contact_sheet import contact_sheet
from unif2ace_data.shards import dataset_shards, read_samples


def main() -> None:
    shards, target = Path(sys.argv[1]), Path(sys.argv[2])
    samples = [
        (files["jpg"], orjson.loads(files["json"])["caption"])
        for shard in dataset_shards(shards)
        for _, files in read_samples(shard)
    ]
    contact_sheet(samples, columns=len(samples), width=260 * len(samples)).save(target, quality=88)


if __name__ == "__main__":
    main()
