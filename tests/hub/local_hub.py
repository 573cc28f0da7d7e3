"""Loopback Hugging Face Hub for offline tests (stdlib + PyYAML); the real `huggingface_hub` talks to it through HF_ENDPOINT.
    hub = LocalHub(ROOT).start(); os.environ["HF_ENDPOINT"] = hub.url   # BEFORE importing huggingface_hub
    hub.fault(r"PUT /_lfs/", 503, times=1)                                     # fault injection, see fault()
Modes: LocalHub(), client with HF_HUB_DISABLE_XET=1: git-LFS batch + presigned PUT; sha256 and size are checked here.
       LocalHub(xet=True), client with hf_xet (its default): the xet token points hf_xet at its built-in `local://` CAS.
CLI:   [LOCAL_HUB_XET=1] python local_hub.py ROOT [PORT]          Not covered: PRs, LFS multipart, repo delete."""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from local_hub_xet import materialise, view

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


class LocalHub:
    def __init__(self, root, port=0, tokens=None, xet=False):
        self.root, self.port, self.xet = Path(root).resolve(), port, xet
        self.tokens = tokens or {"hf_local_write": ("user", "write"), "hf_local_read": ("reader", "read")}
        self.lock, self.secret = threading.RLock(), secrets.token_bytes(16)
        self.faults, self.log, self.lfs_bytes_in, self.auth_leaks = [], [], 0, 0
        for d in ("lfs", "blobs", "tmp", "repos"):
            (self.root / d).mkdir(parents=True, exist_ok=True)

    def start(self):
        self.httpd = ThreadingHTTPServer(("127.0.0.1", self.port), type("H", (Handler,), {"hub": self}))
        self.httpd.daemon_threads, self.port = True, self.httpd.server_address[1]
        self.url, self.cdn = (
            f"http://127.0.0.1:{self.port}",
            f"http://localhost:{self.port}",
        )  # two origins, as Hub vs CDN
        self.httpd.handle_error = lambda *a: (
            isinstance(sys.exc_info()[1], ConnectionError) or ThreadingHTTPServer.handle_error(self.httpd, *a)
        )
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        return self

    def stop(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()

    __enter__, __exit__ = start, stop

    def fault(self, pattern, status=503, times=1, skip=0, after=False, **headers):
        """Fail the next `times` requests whose "METHOD /path" matches, after letting `skip` pass. status=0 drops the
        connection; after=True does the work first (a lost response). For 429 pass ratelimit='"api";r=0;t=1'."""
        self.faults.append(
            {"re": re.compile(pattern), "status": status, "times": times, "skip": skip, "after": after, "headers": headers}
        )

    def take_fault(self, what):
        with self.lock:
            for f in self.faults:
                if f["times"] > 0 and f["re"].search(what):
                    if not f["skip"]:
                        f["times"] -= 1
                        return f
                    f["skip"] -= 1
        return None

    def count(self, pattern):
        return sum(bool(re.search(pattern, f"{m} {p}")) for m, p, _ in self.log)

    # ---- storage: repos/<type>/<ns>/<name>.json (refs + commits with full trees), blobs/<git sha1>, lfs/<sha256>
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
        os.replace(tmp, f)

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


class Handler(BaseHTTPRequestHandler):
    protocol_version, hub = "HTTP/1.1", None
    log_message = lambda *_: None

    def chunks(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while n := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left and (b := self.rfile.read(min(left, 1 << 20))):
                left -= len(b)
                yield b
        self.drained = True

    def json(self):
        return json.loads(self.body() or b"{}")

    def body(self):
        return b"".join(self.chunks())

    def send(self, status, data=b"", **headers):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
            headers.setdefault("Content_Type", "application/json")
        if self.fault and self.fault["after"]:
            status, headers = self.fault["status"], self.fault["headers"]
        self.hub.log.append((self.command, self.path, status))
        self.send_response(status)
        for k, v in {"Content_Length": len(data), **headers}.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def go(self):
        hub, self.url, self.drained = self.hub, urlsplit(self.path), False
        self.q = {k: v[0] for k, v in parse_qs(self.url.query).items()}
        f = self.fault = hub.take_fault(f"{self.command} {self.path}")
        try:
            if f and f["status"] == 0:
                self.close_connection = True
                self.rfile.read1()
                return self.connection.close()
            if f and not f["after"]:
                self.body()
                raise Err(f["status"], "injected fault", **f["headers"])
            tok = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            if self.url.path.startswith(("/_lfs/", "/_cdn/")):
                hub.auth_leaks += bool(tok)  # presigned urls must not see the Hub token
                if not hmac.compare_digest(self.q.get("sig", ""), hub.sign(self.url.path)):
                    raise Err(403, "bad signature")
            if tok and tok not in hub.tokens:
                raise Err(401, "Invalid credentials in Authorization header")
            self.user = hub.tokens.get(tok)
            for method, pat, fn in ROUTES:
                if method == ("GET" if self.command == "HEAD" else self.command) and (
                    m := re.fullmatch(pat, self.url.path)
                ):
                    return fn(self, **m.groupdict())
            raise Err(404, f"no such route: {self.command} {self.url.path}")
        except Err as e:
            if not self.drained:
                self.body()  # keep-alive stays in step
            self.fault = None
            self.send(e.status, e.body, **e.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = go

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
                "private": d.get("visibility") == "private", "gated": False, "created": now(), "branches": {}, "tags": {}, "commits": {}
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
                {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
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
            os.unlink(fd.name)
            raise Err(400, "sha256 mismatch")
        os.replace(fd.name, self.hub.lfs(sha))
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
        with open(file, "rb") as f:
            f.seek(a)
            data = f.read(b - a + 1)
        self.send(
            206 if rng else 200,
            data,
            ETag=f'"{etag}"',
            Accept_Ranges="bytes",
            Content_Type="application/octet-stream",
            **headers,
        )


H, R, V = Handler, r"/api/(?P<rt>models|datasets)/(?P<id>[^/]+/[^/]+)", "/(?P<rev>[^/]+)"
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
if __name__ == "__main__":
    hub = LocalHub(
        sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0, xet=os.environ.get("LOCAL_HUB_XET") == "1"
    ).start()
    print(f"HF_ENDPOINT={hub.url} HF_TOKEN=hf_local_write", flush=True)
    threading.Event().wait()
