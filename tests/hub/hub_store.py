"""What a loopback Hub remembers: repos (refs, and commits with their full trees), blobs by git id, large files by SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import yaml

LFS_EXT = (".tar", ".parquet", ".arrow", ".zip", ".gz", ".zst", ".bin", ".npy", ".npz", ".png", ".jpg", ".mp4", ".wav")
GITATTRIBUTES = "".join(f"*{e} filter=lfs diff=lfs merge=lfs -text\n" for e in LFS_EXT).encode()
TREE_PAGE = 1000


class Err(Exception):
    def __init__(self, status, msg, code=None, **headers):
        self.status, self.body, self.headers = (
            status,
            {"error": msg},
            {"X-Error-Message": msg, **headers} | ({"X-Error-Code": code} if code else {}),
        )


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def git_sha(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha, size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {size}\n".encode()


def front_matter(text):
    m = re.match(r"\A\ufeff?---\r?\n(.*?)\r?\n---\s*(\n|\Z)", text, re.S)
    return yaml.safe_load(m.group(1)) if m else None


def lfs_json(e, key):
    return (
        {key: e["lfs"], "size": e["size"], "pointerSize": len(pointer(e["lfs"], e["size"]))} if e.get("lfs") else None
    )


def entry(path, e):
    return (
        {"type": "file", "path": path, "oid": e["oid"], "size": e["size"]}
        | ({"lfs": lfs_json(e, "oid")} if e.get("lfs") else {})
        | ({"xetHash": e["xet"]} if e.get("xet") else {})
    )


def walk(tree, base, recursive):
    out, pre = {}, base + "/" if base else ""
    for p, e in tree.items():
        if p == base:
            out[p] = entry(p, e)
        elif p.startswith(pre):
            parts = p[len(pre) :].split("/")
            for i in range(1, len(parts) if recursive else min(2, len(parts))):
                d = pre + "/".join(parts[:i])
                out[d] = {"type": "directory", "path": d, "oid": git_sha(d.encode()), "size": 0}
            if recursive or len(parts) == 1:
                out[p] = entry(p, e)
    return [out[k] for k in sorted(out)]


def check_card(text):
    """The part of /api/validate-yaml that matters for datasets -> (errors, warnings)."""
    try:
        card = dict(front_matter(text) or {})
    except (yaml.YAMLError, TypeError, ValueError) as e:
        return [f"invalid YAML: {e}"], []
    if not card:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [
        f'"{k}" must be a list'
        for k in ("task_categories", "tags", "size_categories", "configs")
        if not isinstance(card.get(k, []), list)
    ]
    ok = lambda c: isinstance(c, dict) and c.get("config_name") and (c.get("data_files") or c.get("data_dir"))
    return errors or [
        '"configs" items need "config_name" and "data_files"' for c in card.get("configs", []) if not ok(c)
    ], []


class Store:
    """On disk below `root`: repos/<type>/<user>/<name>.json, blobs/<git sha1>, lfs/<sha256>, cas/ (Xet)."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.lock, self.secret = threading.RLock(), secrets.token_bytes(16)
        self.cdn = ""
        self.make_folders()

    def make_folders(self):
        for d in ("lfs", "blobs", "tmp", "repos"):
            (self.root / d).mkdir(parents=True, exist_ok=True)

    def repo_file(self, rt, rid):
        return self.root / "repos" / rt / (rid + ".json")

    def load(self, rt, rid, user=None, write=False):
        f = self.repo_file(rt, rid)
        repo = json.loads(f.read_text()) if f.is_file() else None
        owner = user and user[0] == rid.split("/")[0]
        if repo is None or (repo["private"] and not owner):
            raise Err(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Err(401, "Invalid username or password.")
        if write and not (owner and user[1] == "write"):
            raise Err(403, "Forbidden: you must use a write token to upload to a repository.")
        return repo

    def save(self, rt, rid, repo):
        f = self.repo_file(rt, rid)
        f.parent.mkdir(parents=True, exist_ok=True)
        tmp = f.with_suffix(".tmp")
        tmp.write_text(json.dumps(repo))
        tmp.replace(f)

    @contextmanager
    def edit(self, rt, rid, user):
        with self.lock:
            repo = self.load(rt, rid, user, write=True)
            yield repo
            self.save(rt, rid, repo)

    def oid(self, repo, rev):
        rev = unquote(rev)
        for kind in ("branches", "tags"):
            if rev in repo[kind]:
                return repo[kind][rev]
        todo = [*repo["branches"].values(), *repo["tags"].values()]  # only reachable commits resolve
        while todo:
            c = todo.pop()
            todo += repo["commits"][c]["parents"]
            if len(rev) >= 7 and c.startswith(rev):
                return c
        raise Err(404, "Invalid rev id: " + rev, "RevisionNotFound")

    def commit(self, repo, branch, tree, title, desc, user, parents):
        c = {"parents": parents, "title": title, "message": desc, "date": now(), "author": user, "tree": tree}
        oid = hashlib.sha1(f"{json.dumps(c)}{time.time_ns()}".encode()).hexdigest()
        repo["commits"][oid], repo["branches"][branch], repo["lastModified"] = c, oid, c["date"]
        return oid

    def add_blob(self, data):
        e = {"size": len(data), "oid": git_sha(data)}
        (self.root / "blobs" / e["oid"]).write_bytes(data)
        return e

    def lfs(self, sha):
        return self.root / "lfs" / sha

    def sign(self, path):
        return hmac.new(self.secret, path.encode(), "sha256").hexdigest()[:32]

    def signed(self, path):
        return f"{self.cdn}{path}?sig={self.sign(path)}"
