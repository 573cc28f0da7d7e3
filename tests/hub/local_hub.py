"""A loopback Hub in this process: the real client talks to it through HF_ENDPOINT, over HTTP, with faults on request.

    hub = LocalHub(ROOT).start()    # HF_ENDPOINT=hub.url in the client's environment, before it imports huggingface_hub
    hub.fault(r"PUT /_lfs/", 503, times=1)

LocalHub(), client with HF_HUB_DISABLE_XET=1: git-LFS batch and signed PUTs; SHA-256 and size are checked here.
LocalHub(xet=True), client with hf_xet (its default): the token points hf_xet at a folder (its own `local://` store).
Not covered: pull requests, LFS in several parts, repos that move.
"""

from __future__ import annotations

import hmac
import json
import re
import shutil
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from hub_routes import ROUTES, Answers
from hub_store import Err, Store


class LocalHub(Store):
    """The server, in threads of this process. `lfs_bytes_in`, `bytes_out`: large files received and sent, in bytes."""

    def __init__(self, root, port=0, xet=False):
        super().__init__(root)
        self.port, self.xet = port, xet
        self.tokens = {"hf_local_write": ("user", "write"), "hf_local_read": ("reader", "read")}
        self.forget()

    def forget(self):
        self.faults, self.log, self.lfs_bytes_in, self.bytes_out, self.auth_leaks = [], [], 0, 0, 0
        self.ignored = ()  # names that a .gitignore of the repo would keep out

    def wipe(self):
        """As new: no repos, no files, no faults."""
        for folder in ("lfs", "blobs", "tmp", "repos", "cas"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        self.make_folders()
        self.forget()

    def start(self):
        self.httpd = ThreadingHTTPServer(("127.0.0.1", self.port), type("H", (Handler,), {"hub": self}))
        self.httpd.daemon_threads, self.port = True, self.httpd.server_address[1]
        # two origins, as the Hub and what delivers large files are two
        self.url, self.cdn = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"
        self.httpd.handle_error = self.handle_error
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        return self

    def handle_error(self, *request):
        if not isinstance(sys.exc_info()[1], (ConnectionError, ValueError)):  # a client that went away, a dropped line
            ThreadingHTTPServer.handle_error(self.httpd, *request)

    def stop(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()

    __enter__, __exit__ = start, stop

    def fault(self, pattern, status=503, times=1, skip=0, after=False, cut=False, says="injected fault", **headers):
        """Fail the next `times` requests whose "METHOD /path" matches, after letting `skip` pass. status=0 drops the
        connection; after=True does the work first (a lost answer); cut=True hangs up in mid-answer. For 429 pass ratelimit='"api";r=0;t=1'."""
        self.faults.append(
            {
                "re": re.compile(pattern), "status": status, "times": times, "skip": skip, "after": after or cut,
                "cut": cut, "says": says, "headers": headers,
            }
        )  # fmt: skip

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


class Handler(Answers, BaseHTTPRequestHandler):
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
        cut = self.fault and self.fault["cut"]
        if self.fault and self.fault["after"] and not cut:
            status, headers = self.fault["status"], self.fault["headers"]
            if status == 0:
                return self.drop()
        self.hub.log.append((self.command, self.path, status))
        self.send_response(status)
        for k, v in {"Content_Length": len(data), **headers}.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return None

    def drop(self):
        """Hang up without an answer."""
        self.close_connection = True
        self.hub.log.append((self.command, self.path, 0))
        self.connection.shutdown(socket.SHUT_RDWR)

    def go(self):
        hub, self.url, self.drained = self.hub, urlsplit(self.path), False
        self.q = {k: v[0] for k, v in parse_qs(self.url.query).items()}
        f = self.fault = hub.take_fault(f"{self.command} {self.path}")
        try:
            if f and not f["after"]:
                if f["status"] == 0:
                    next(self.chunks(), None)  # in the middle of a large body, if there is one
                    return self.drop()
                self.body()
                raise Err(f["status"], f["says"], **f["headers"])
            tok = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            hub.auth_leaks += bool(tok) and self.headers["Host"].startswith("localhost")  # the other origin
            signed = hmac.compare_digest(self.q.get("sig", ""), hub.sign(self.url.path))
            if self.url.path.startswith(("/_lfs/", "/_cdn/")) and not signed:
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
