"""croissant.json: the dataset for machines (Croissant 1.1 with the RAI vocabulary), from index, stats, recipe, manifests.

Every shard is a file with its SHA-256; the records and pictures inside are two file sets and two record sets. Nothing
that only people know stands in it: that is what the datasheet's blocks are for.
"""

from __future__ import annotations

from typing import Any

import orjson

from unif2ace_data.curate.licences import OTHER
from unif2ace_data.recipe import Release as Stated
from unif2ace_data.release.card import shards_hash
from unif2ace_data.release.datasheet import said, subjects, unique
from unif2ace_data.release.features import flat_fields

CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {"string": "sc:Text", "int64": "cr:Int64", "float64": "cr:Float64", "bool": "sc:Boolean"}


def croissant_bytes(
    stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]], shards: list[dict[str, Any]]
) -> bytes:
    """The whole file. stats: compute_stats; recipe: the resolved one; shards: their entries in the index."""
    name = str(recipe.get("name", "dataset"))
    data: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": f"{stats['kept']} faces with captions whose claims rest on evidence, attributes, and "
        f"{stats['qa']['total']} questions with answers. README.md and DATASHEET.md say more.",
        "conformsTo": CONFORMS,
        # Our choice: no date, so that the same data give the same bytes; the version is that of the data.
        "version": f"1.0.0+{shards_hash(shards)[:12]}",
        "license": licences(stats, Stated.model_validate(recipe.get("release") or {})),
        "inLanguage": "en",
        "keywords": ["faces", "image-text", "webdataset"],
        "isLiveDataset": False,
        "distribution": distribution(shards),
        "recordSet": record_sets(),
        **responsible(stats, recipe, manifests),
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n"


def licences(stats: dict[str, Any], stated: Stated) -> list[str]:
    """What is stated for the whole, else the photographs' own."""
    if stated.licence and stated.licence.casefold() != OTHER:
        return [stated.licence]
    if stated.licence:
        return [stated.licence_link or stated.licence_name or OTHER]
    return [name or "not stated" for name in stats["licences"]]


def distribution(shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    files = [
        {
            "@type": "cr:FileObject",
            "@id": shard["name"],
            "name": shard["name"],
            "description": f"{shard['samples']} samples of the {shard['split']} split",
            "contentUrl": shard["name"],
            "contentSize": f"{shard['bytes']} B",
            "encodingFormat": "application/x-tar",
            "sha256": shard["sha256"],
        }
        for shard in shards
    ]
    inside = [{"@id": shard["name"]} for shard in shards]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "containedIn": inside,
            "encodingFormat": kind,
            "includes": f"*.{extension}",
        }
        for name, kind, extension in (
            ("picture-files", "image/jpeg", "jpg"),
            ("record-files", "application/json", "json"),
        )
    ]
    return files + sets


def record_sets() -> list[dict[str, Any]]:
    """Records and pictures, each read from its own files; the key in a picture's name is the record's `uid`.

    Our choice: two sets and no join, which readers of Croissant carry out only for some kinds of files.
    """
    key = {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"([^/]+)\.jpg$"}}
    pictures = [
        {
            "@type": "cr:Field",
            "@id": "pictures/key",
            "name": "key",
            "dataType": "sc:Text",
            "source": {"fileSet": {"@id": "picture-files"}, **key},
        },
        {
            "@type": "cr:Field",
            "@id": "pictures/picture",
            "name": "picture",
            "dataType": "sc:ImageObject",
            "source": {"fileSet": {"@id": "picture-files"}, "extract": {"fileProperty": "content"}},
        },
    ]
    records = [
        {
            "@type": "cr:Field",
            "@id": f"records/{name}",
            "name": name,
            "dataType": TYPES[kind],
            **({"isArray": True, "arrayShape": "-1"} if several else {}),
            "source": {"fileSet": {"@id": "record-files"}, "extract": {"jsonPath": path}},
        }
        for name, kind, path, several in flat_fields()
    ]
    return [
        {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": key_field}, "field": fields}
        for name, key_field, fields in (("records", "records/uid", records), ("pictures", "pictures/key", pictures))
    ]


def responsible(
    stats: dict[str, Any], recipe: dict[str, Any], manifests: list[dict[str, Any]]
) -> dict[str, str | list[str]]:
    """What the RAI vocabulary asks for and the data can answer."""
    claims, captions = stats["claims"], stats["captions"]
    sources = [
        f"{m.get('name', '')}: {said(m, 'title')} ({stats['datasets'].get(m.get('name', ''), {}).get('kept', 0)} kept)"
        for m in unique(manifests)
    ]
    removal = [f"{m.get('name', '')}: {said(m, 'removal')}" for m in unique(manifests) if said(m, "removal")]
    models = (recipe.get("resolved") or {}).get("models") or {}
    return {
        "rai:dataCollection": f"Photographs and videos from {'; '.join(sources)}.",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataCollectionMissingData": f"Of {stats['inputs']} inputs {stats['dropped']} rows were dropped and "
        f"{stats['failed']} failed: "
        + (", ".join(f"{r['reason']} {r['rows']}" for r in stats["reasons"]) or "none")
        + ".",
        "rai:dataPreprocessingProtocol": [
            "Faces were found, measured, filtered by thresholds (recipe.yaml), cleared of duplicates, cut out and aligned.",
            "Samples of one person, as far as face embeddings can tell, lie in one split.",
        ],
        "rai:dataAnnotationProtocol": [
            "Attributes are measured, or taken from the sources' own annotations; each names its evidence. Captions state "
            f"{captions['attributes_per_caption']} attributes on average, by {', '.join(captions['engines'])}."
        ],
        "rai:dataAnnotationAnalysis": [
            f"Of {claims['total']} claims in captions {claims['supported']} are supported by evidence, "
            f"{claims['contradicted']} contradicted, {claims['unverified']} unverified."
        ],
        "rai:annotationsPerItem": f"One caption, {stats['attributes_per_sample']} attributes and "
        f"{stats['qa']['per_sample']} questions a sample on average.",
        "rai:machineAnnotationTools": [f"{name} (SHA-256 {digest})" for name, digest in sorted(models.items())],
        "rai:personalSensitiveInformation": [
            "Faces, which identify people, and apparent age and gender, which are appearances in one picture.",
            "No face embeddings, no measurements of skin tone; nothing that infers ethnicity, religion, orientation or a name.",
            subjects(stats, recipe, manifests).replace("**", ""),
        ],
        "rai:dataLimitations": [
            "Labelled by machines. What was not measured is not claimed; apparent age and gender are not facts about a person.",
            *stats["notes"],
        ],
        "rai:dataReleaseMaintenancePlan": "Pictures are removed on request: see README.md. "
        + ("At the sources: " + "; ".join(removal) if removal else ""),
    }
