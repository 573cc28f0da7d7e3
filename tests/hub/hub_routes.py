"""What the loopback Hub answers, by route."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote

from hub_store import (
    GITATTRIBUTES,
    LFS_EXT,
    TREE_PAGE,
    Err,
    check_card,
    front_matter,
    git_sha,
    lfs_json,
    now,
    pointer,
    walk,
)
from local_hub_xet import materialise, view


class Answers:
    """Methods of the request handler (local_hub.Handler): `self.hub` is the store, `self.user` (name, role) or None."""

    # ---- account, repos, refs
    def whoami(self):
        if not self.user:
            raise Err(401, "Invalid username or password.")
        self.send(
            200,
            {
                "type": "user",
                "name": self.user[0],
                "orgs": [],
                "auth": {"accessToken": {"displayName": "t", "role": self.user[1]}},
            },
        )

    def create(self):
        d, hub = self.json(), self.hub
        rt = d.get("type", "model") + "s"
        ns = d.get("organization") or (self.user or ("",))[0]
        rid = f"{ns}/{d['name']}"
        url = f"{hub.url}/{'' if rt == 'models' else rt + '/'}{rid}"
        if self.user != (ns, "write"):
            raise Err(
                403 if self.user else 401, f"You don't have the rights to create a {rt[:-1]} under the namespace {ns}"
            )
        with hub.lock:
            if hub.repo_file(rt, rid).exists():
                return self.send(409, {"error": f"You already created this {rt[:-1]} repo: {rid}", "url": url})
            repo = {
                "private": d.get("visibility") == "private",
                "gated": False,
                "created": now(),
                "branches": {},
                "tags": {},
                "commits": {},
            }
            hub.commit(repo, "main", {".gitattributes": hub.add_blob(GITATTRIBUTES)}, "initial commit", "", ns, [])
            hub.save(rt, rid, repo)
        self.send(200, {"url": url, "name": rid})
        return None

    def auth_check(self, rt, id, write):
        self.hub.load(rt, id, self.user, bool(write))
        self.send(200, {})

    def settings(self, rt, id):
        d = self.json()
        with self.hub.edit(rt, id, self.user) as repo:
            repo["gated"] = d.get("gated", repo["gated"])
            repo["private"] = d.get("visibility", "private" if repo["private"] else "") == "private"
        self.send(200, {})

    def validate(self):
        errors, warns = ([{"message": m} for m in x] for x in check_card(self.json()["content"]))
        self.send(400 if errors else 200, {"errors": errors, "warnings": warns})

    def at(self, rt, id, rev, write=False):
        repo = self.hub.load(rt, id, self.user, write)
        oid = self.hub.oid(repo, rev)
        return repo, oid, repo["commits"][oid]["tree"]

    def info(self, rt, id, rev="main"):
        repo, oid, tree = self.at(rt, id, rev)
        card = (
            front_matter((self.hub.root / "blobs" / tree["README.md"]["oid"]).read_text())
            if "README.md" in tree
            else None
        )
        more = lambda e: (
            {"size": e["size"], "blobId": e["oid"], "lfs": lfs_json(e, "sha256")} if "blobs" in self.q else {}
        )
        self.send(
            200,
            {
                "id": id,
                "author": id.split("/")[0],
                "sha": oid,
                "private": repo["private"],
                "gated": repo["gated"],
                "disabled": False,
                "createdAt": repo["created"],
                "lastModified": repo["lastModified"],
                "downloads": 0,
                "likes": 0,
                "tags": (card or {}).get("tags", []),
                "cardData": card,
                "siblings": [{"rfilename": p} | more(e) for p, e in sorted(tree.items())],
            },
        )

    def tree(self, rt, id, rev, path):
        path = unquote(path or "").strip("/")
        items = walk(self.at(rt, id, rev)[2], path, self.q.get("recursive", "").lower() == "true")
        if not items and path:
            raise Err(404, f'{path} does not exist on "{unquote(rev)}"', "EntryNotFound")
        a = int(self.q.get("cursor", 0))
        b = a + TREE_PAGE
        nxt = f'<{self.hub.url}{self.url.path}?recursive={self.q.get("recursive", "")}&cursor={b}>; rel="next"'
        self.send(200, items[a:b], **({"Link": nxt} if b < len(items) else {}))

    def paths_info(self, rt, id, rev):
        have = {e["path"]: e for e in walk(self.at(rt, id, rev)[2], "", True)}
        self.send(
            200, [have[p.strip("/")] for p in parse_qs(self.body().decode()).get("paths", []) if p.strip("/") in have]
        )

    def commits(self, rt, id, rev):
        repo, oid, _ = self.at(rt, id, rev)
        out = []
        while oid:
            c = repo["commits"][oid]
            out.append(
                {
                    "id": oid,
                    "title": c["title"],
                    "message": c["message"],
                    "date": c["date"],
                    "authors": [{"user": c["author"]}],
                }
            )
            oid = (c["parents"] or [None])[0]
        self.send(200, out)

    def refs(self, rt, id):
        ls = lambda k, d: [
            {"name": n, "ref": f"refs/{d}/{n}", "targetCommit": o}
            for n, o in self.hub.load(rt, id, self.user)[k].items()
        ]
        self.send(
            200, {"branches": ls("branches", "heads"), "tags": ls("tags", "tags"), "converts": [], "pullRequests": []}
        )

    def ref(self, rt, id, kind, rev):
        d, rev, key = self.json(), unquote(rev), "tags" if kind == "tag" else "branches"
        with self.hub.edit(rt, id, self.user) as r:
            name, start = (d["tag"], rev) if "tag" in d else (rev, d.get("startingPoint", "main"))
            if (name in r[key]) != (self.command == "DELETE"):
                raise Err(409, "Reference already exists, or does not")
            if not r[key].pop(name, None):
                r[key][name] = self.hub.oid(r, start)
        self.send(200, {})

    def squash(self, rt, id, rev):
        d, rev = self.json(), unquote(rev)
        with self.hub.edit(rt, id, self.user) as r:
            self.hub.commit(
                r,
                rev,
                r["commits"][r["branches"].get(rev) or self.hub.oid(r, "no such branch")]["tree"],
                d.get("message", "squash"),
                "",
                self.user[0],
                [],
            )
        self.send(200, {})

    def lfs_list(self, rt, id):
        r = self.hub.load(rt, id, self.user, write=True)
        seen = {
            e["lfs"]: (p, e, c["date"]) for c in r["commits"].values() for p, e in c["tree"].items() if e.get("lfs")
        }
        self.send(
            200,
            [
                {"fileOid": s, "oid": s, "filename": p, "size": e["size"], "pushedAt": at, "ref": "main"}
                for s, (p, e, at) in seen.items()
            ],
        )

    def lfs_purge(self, rt, id):
        d = self.json()["deletions"]
        gone = set(d["sha"])
        with self.hub.edit(rt, id, self.user) as r:
            for c in r["commits"].values() if d.get("rewriteHistory") else ():
                c["tree"] = {p: e for p, e in c["tree"].items() if e.get("lfs") not in gone}
        for s in gone:
            self.hub.lfs(s).unlink(missing_ok=True)
        self.send(200, {})

    # ---- upload
    def preupload(self, rt, id, rev):
        files, out, tree = self.json()["files"], [], self.at(rt, id, rev, write=True)[2]
        for f in files:
            binary, old = b"\0" in base64.b64decode(f.get("sample", "")), tree.get(f["path"])
            mode = "lfs" if binary or f["size"] > 10 << 20 or f["path"].lower().endswith(LFS_EXT) else "regular"
            out.append(
                {"path": f["path"], "uploadMode": mode, "shouldIgnore": f["path"] in self.hub.ignored}
                | ({"oid": old.get("lfs") or old["oid"]} if old else {})
            )
        self.send(200, {"files": out})

    def lfs_batch(self, rt, id):
        d = self.json()
        hub, rt = self.hub, rt or "models"
        hub.load(rt, id, self.user, write=True)
        act = lambda o: {
            "upload": {"href": hub.signed("/_lfs/" + o["oid"])},
            "verify": {"href": f"{hub.url}/api/{rt}/{id}/lfs-verify"},
        }
        self.send(
            200,
            {
                "transfer": "basic",
                "objects": [o if hub.lfs(o["oid"]).exists() else o | {"actions": act(o)} for o in d["objects"]],
            },
        )

    def lfs_put(self, sha):
        h = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self.hub.root / "tmp", delete=False) as fd:
            for b in self.chunks():
                h.update(b)
                fd.write(b)
                self.hub.lfs_bytes_in += len(b)
        if h.hexdigest() != sha:
            Path(fd.name).unlink()
            raise Err(400, "sha256 mismatch")
        Path(fd.name).replace(self.hub.lfs(sha))
        self.send(200)

    def lfs_verify(self, rt, id):
        d = self.json()
        p = self.hub.lfs(d["oid"])
        self.send(200 if p.exists() and p.stat().st_size == d["size"] else 404, {})

    def xet_token(self, rt, id, kind, rev):
        self.hub.load(rt, id, self.user, write=kind == "write")
        if not self.hub.xet:
            raise Err(404, "xet is off on this server: set HF_HUB_DISABLE_XET=1 in the client")
        url, exp = (
            f"local://{self.hub.root / 'cas' if kind == 'write' else view(self.hub.root)}",
            int(time.time()) + 3600,
        )
        self.send(
            200,
            {"casUrl": url, "accessToken": "t", "exp": exp},
            X_Xet_Cas_Url=url,
            X_Xet_Access_Token="t",
            X_Xet_Token_Expiration=exp,
        )

    def do_commit(self, rt, id, rev):
        lines, hub, branch = [json.loads(x) for x in self.body().splitlines() if x.strip()], self.hub, unquote(rev)
        head = lines[0]["value"]
        with hub.edit(rt, id, self.user) as repo:
            parent = repo["branches"].get(branch) or self.hub.oid(repo, "no such branch")
            tree = dict(repo["commits"][parent]["tree"])
            if not parent.startswith(head.get("parentCommit", "")):
                raise Err(412, "A commit has happened since. Please refresh and try again.")
            xet = (
                materialise(hub.root, [o["value"]["oid"] for o in lines[1:] if o["key"] == "lfsFile"], hub.lfs)
                if hub.xet
                else {}
            )
            for op in lines[1:]:
                k, v = op["key"], op["value"]
                p = v["path"]
                if k == "file":
                    data = base64.b64decode(v["content"])
                    if p == "README.md" and check_card(data.decode())[0]:
                        raise Err(400, "Invalid metadata in README.md")
                    tree[p] = hub.add_blob(data)
                elif k == "lfsFile":
                    f, hit = hub.lfs(v["oid"]), xet.get(v["oid"])
                    size = f.stat().st_size if f.exists() else -1
                    if size != v.get("size", size) or size < 0:
                        raise Err(400, f"LFS pointer pointed to a file that does not exist: {p}")
                    tree[p] = {"size": size, "oid": git_sha(pointer(v["oid"], size)), "lfs": v["oid"]} | (
                        {"xet": hit[0]} if hit else {}
                    )
                else:
                    hits = [
                        x
                        for x in tree
                        if x == p.rstrip("/") or (k == "deletedFolder" and x.startswith(p.rstrip("/") + "/"))
                    ]
                    if not hits:
                        raise Err(404, "A file with this name doesn't exist: " + p, "EntryNotFound")
                    tree = {x: e for x, e in tree.items() if x not in hits}
            oid = hub.commit(repo, branch, tree, head["summary"], head.get("description", ""), self.user[0], [parent])
        self.send(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{rt}/{id}/commit/{oid}", "hookOutput": ""}
        )

    # ---- download
    def resolve(self, rt, id, rev, path):
        hub, rt = self.hub, rt or "models"
        repo, oid, tree = self.at(rt, id, rev)
        e = tree.get(unquote(path))
        if repo["gated"] and not (self.user and self.user[0] == id.split("/")[0]):
            raise Err(403 if self.user else 401, f"Access to {id} is restricted.", "GatedRepo")
        if not e:
            raise Err(404, "Entry not found", "EntryNotFound", X_Repo_Commit=oid)
        if not e.get("lfs"):
            return self.blob(hub.root / "blobs" / e["oid"], e["oid"], X_Repo_Commit=oid)
        xet = (
            {"X_Xet_Hash": e["xet"], "Link": f'<{hub.url}/api/{rt}/{id}/xet-read-token/{oid}>; rel="xet-auth"'}
            if e.get("xet")
            else {}
        )
        self.send(
            302,
            Location=hub.signed("/_cdn/" + e["lfs"]),
            X_Repo_Commit=oid,
            X_Linked_Etag=f'"{e["lfs"]}"',
            X_Linked_Size=e["size"],
            **xet,
        )
        return None

    def cdn(self, sha):
        self.blob(self.hub.lfs(sha), sha)

    def blob(self, file, etag, **headers):
        if not file.exists():
            raise Err(404, "gone")
        size, rng = file.stat().st_size, re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        a, b = 0, size - 1
        if rng:
            a, b = (int(rng[1]), min(int(rng[2] or b), b)) if rng[1] else (max(0, size - int(rng[2])), b)
        if rng and a >= size:
            raise Err(416, "range", Content_Range=f"bytes */{size}")
        if rng:
            headers["Content_Range"] = f"bytes {a}-{b}/{size}"
        with file.open("rb") as f:
            f.seek(a)
            data = f.read(b - a + 1)
        if self.command != "HEAD":
            self.hub.bytes_out += len(data)
        self.send(
            206 if rng else 200,
            data,
            ETag=f'"{etag}"',
            Accept_Ranges="bytes",
            Content_Type="application/octet-stream",
            **headers,
        )


H, R, V = Answers, r"/api/(?P<rt>models|datasets)/(?P<id>[^/]+/[^/]+)", "/(?P<rev>[^/]+)"
W = r"/(?:(?P<rt>datasets)/)?(?P<id>[^/]+/[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", H.whoami),
    ("GET", R + "/auth-check(?P<write>/write)?", H.auth_check),
    ("POST", "/api/repos/create", H.create),
    ("POST", "/api/validate-yaml", H.validate),
    ("GET", R, H.info),
    ("GET", R + "/revision" + V, H.info),
    ("PUT", R + "/settings", H.settings),
    ("GET", R + "/tree" + V + "(?P<path>/.*)?", H.tree),
    ("POST", R + "/paths-info" + V, H.paths_info),
    ("GET", R + "/commits" + V, H.commits),
    ("GET", R + "/refs", H.refs),
    ("POST", R + "/(?P<kind>tag|branch)" + V, H.ref),
    ("DELETE", R + "/(?P<kind>tag|branch)" + V, H.ref),
    ("POST", R + "/super-squash" + V, H.squash),
    ("GET", R + "/lfs-files", H.lfs_list),
    ("POST", R + "/lfs-files/batch", H.lfs_purge),
    ("POST", R + "/preupload" + V, H.preupload),
    ("POST", R + "/commit" + V, H.do_commit),
    ("POST", R + "/lfs-verify", H.lfs_verify),
    ("GET", R + "/xet-(?P<kind>read|write)-token" + V, H.xet_token),
    ("POST", W + r"\.git/info/lfs/objects/batch", H.lfs_batch),
    ("PUT", "/_lfs/(?P<sha>[0-9a-f]{64})", H.lfs_put),
    ("GET", W + "/resolve" + V + "/(?P<path>.+)", H.resolve),
    ("GET", "/_cdn/(?P<sha>[0-9a-f]{64})", H.cdn),
]
