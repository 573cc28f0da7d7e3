"""Somebody who publishes: the real command line at a machine whose environment leads to a loopback Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_hub import LocalHub

from unif2ace_data.shards import INDEX, read_index, sha256_file, write_index

REPO = "user/name"
TOKEN = "hf_local_write"  # what LocalHub lets `user` write with


def described_again(out: Path, words: str) -> None:
    """Words at the end of the card, and an index that knows of them."""
    card = out / "README.md"
    card.write_text(f"{card.read_text()}\n{words}\n")
    indexed_again(out, "README.md")


def indexed_again(out: Path, *names: str) -> None:
    """index.json of a dataset of which these files are new, or changed."""
    index = read_index(out)
    files = index["files"] | {n: {"bytes": (out / n).stat().st_size, "sha256": sha256_file(out / n)} for n in names}
    write_index(out, index["shards"], files, index["counts"])


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


@dataclass
class Machine:
    """A process with the toolkit, whose environment leads to one Hub (command_server.py)."""

    hub: LocalHub
    home: Path
    server: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.lower().startswith(("hf_", "hugging", "http"))}
        return clean | {
            "HF_ENDPOINT": self.hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(self.home), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1", "NO_PROXY": "127.0.0.1,localhost",
            **({} if self.hub.xet else {"HF_HUB_DISABLE_XET": "1"}),
        }  # fmt: skip

    def run(self, task: dict[str, Any]) -> Done:
        if self.server is None:
            command = [sys.executable, str(Path(__file__).with_name("command_server.py"))]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.server = subprocess.Popen(command, env=self.environment(), **pipes)
        assert self.server.stdin and self.server.stdout
        print(json.dumps(task), file=self.server.stdin, flush=True)
        return Done(**json.loads(self.server.stdout.readline()))

    def stop(self) -> None:
        if self.server is not None and self.server.stdin:
            self.server.stdin.close()
            self.server.wait(timeout=30)


@dataclass
class Client:
    """Somebody at a machine, in a folder of theirs; `env` is theirs, too."""

    machine: Machine
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def hub(self) -> LocalHub:
        return self.machine.hub

    def run(self, *arguments: str, code: int = 0, before: str = "") -> Done:
        task = {"arguments": arguments, "folder": str(self.folder), "env": self.env, "before": before}
        done = self.machine.run(task)
        assert done.code == code, done.out + done.err
        assert "Traceback" not in done.err and TOKEN not in done.out + done.err
        return done

    def publish(self, *options: str, **how: Any) -> dict[str, Any]:
        return dict(json.loads(self.run("publish", "shards", "--repo", REPO, "--json", *options, **how).out))

    def pull(self, out: str, *options: str, **how: Any) -> dict[str, Any]:
        return dict(json.loads(self.run("pull", REPO, "--out", out, "--json", *options, **how).out))

    def call(self, code: str) -> Any:
        """What a program gets that leaves JSON in `answer`."""
        before = f"import json, sys\n{code}\nprint(json.dumps(answer))\nsys.exit(0)"
        return json.loads(self.run(before=before).out)

    def refused(self, *arguments: str, code: int = 1, before: str = "") -> str:
        """The one line that a command says which cannot be done."""
        lines = self.run(*arguments, "--json", code=code, before=before).err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("unif2ace-data: "), lines
        return lines[0]

    def remote(self) -> dict[str, Any]:
        return dict(json.loads(self.hub.repo_file("datasets", REPO).read_text()))

    def tree(self, branch: str = "main") -> dict[str, Any]:
        repo = self.remote()
        return dict(repo["commits"][repo["branches"][branch]]["tree"])

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        env = self.machine.environment() | self.env
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=self.folder, env=env)


def named(out: Path) -> set[str]:
    """What leaves of a dataset."""
    index = read_index(out)
    return {s["name"] for s in index["shards"]} | set(index["files"]) | {INDEX}


def stored(hub: LocalHub) -> int:
    """Bytes of large files that the Hub took: signed PUTs, or what Xet stored."""
    return hub.lfs_bytes_in + sum(p.stat().st_size for p in (hub.root / "cas").rglob("xorbs/default.*"))


def without_shard(out: Path, name: str) -> None:
    """The dataset as if the photographs of one shard had been dropped."""
    index = read_index(out)
    ledger = f"ledger/kept-{name.removesuffix('.tar')}.parquet"
    (gone,) = [shard for shard in index["shards"] if shard["name"] == name]
    count, counts = gone["samples"], index["counts"]
    for path in (out / name, out / ledger, out.with_name("shards.work") / "ledger.parquet"):
        path.unlink()
    for kept, dropped in (("kept", "dropped"), ("inputs_kept", "inputs_dropped")):
        counts[kept] -= count
        counts[dropped] += count
    counts["reasons"]["border"] = counts["reasons"].get("border", 0) + count
    index["files"].pop(ledger)
    write_index(out, [shard for shard in index["shards"] if shard is not gone], index["files"], counts)
