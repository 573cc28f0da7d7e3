"""What the adult gate costs on photographs of adults, signal by signal.

    python benchmarks/adult_gate.py --photos FOLDER

Every photo in FOLDER must show one adult. (What the gate lets in of people under 18 cannot be measured with photographs
that may be shared; docs/adult-gate.md has the figures of the embedded age network on 209 such photographs, and says why
the other signals can only lower them.)
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from unif2ace_data.faces.adult import adult_drop
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.recipe import Faces, load_recipe
from unif2ace_data.schema import Annotations, FaceRecord


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    args = parser.parse_args()
    analyser = Analyser(Faces())
    faces: list[FaceRecord] = []
    for path in sorted(args.photos.iterdir()):
        record = analyser.analyse(path.read_bytes()).record
        if len(record.faces) == 1 and record.faces[0].measured:
            faces.append(record.faces[0])
    print(f"{len(faces)} photographs of adults")
    for least in (25, 30, 33, 35):
        alone = sum(f.age["expected"] >= least for f in faces)
        both = sum(min(f.age["expected"], f.age["expected_mirrored"]) >= least for f in faces)
        print(f"  expected age >= {least}: {alone / len(faces):6.1%} kept; in both views: {both / len(faces):6.1%}")
    gate = load_recipe("embedded").filters.adult
    assert gate is not None
    reasons = Counter(found[2] if (found := adult_drop(f, Annotations(), gate)) else "kept" for f in faces)
    print("the whole gate, first signal that keeps a face out:")
    for reason, count in reasons.most_common():
        print(f"  {reason:<60} {count:4d}  {count / len(faces):6.1%}")


if __name__ == "__main__":
    main()
