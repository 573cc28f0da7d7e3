"""The real vLLM as a child process: start, wait, stop, kill, and start again on the same port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
TOOL = REPOSITORY / "tools" / "vllm_cpu"
VENV = Path(os.environ.get("VLLM_VENV", REPOSITORY / ".venv-vllm")).absolute()
MODEL = "tiny-vlm"  # the name that the server knows its model by
COUNTER = "vllm:request_success_total{"


class Server:
    """One `vllm serve` in a process group of its own. As a context manager it is stopped at the end.

    `base_url` is http://127.0.0.1:PORT/v1; `log` is the file with all that server and engine print.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = Path()
        self.started = 0.0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, model_dir: Path, port: int | None = None, **env: str) -> Server:
        """Start serving `model_dir` and return at once; `env` adds to the child's environment. See `wait_ready`."""
        if self.process is not None:
            raise RuntimeError("this server runs already: stop or kill it first")
        self.port = port or free_port()
        handle, name = tempfile.mkstemp(prefix="vllm-", suffix=".log")
        self.log, self.started = Path(name), time.monotonic()
        self.process = subprocess.Popen(
            ["bash", str(TOOL / "serve.sh"), str(model_dir), str(self.port)],
            env=os.environ | {"VLLM_VENV": str(VENV)} | env,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(handle)
        return self

    def wait_ready(self, seconds: float = 180) -> float:
        """Wait until /health answers 200; returns the seconds since the start.

        Raises RuntimeError with the end of the log where the server died or did not get ready in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"vLLM ended before it was ready; {self.log} ends\n{self.tail()}")
            if self.healthy():
                return time.monotonic() - self.started
            time.sleep(0.2)
        raise RuntimeError(f"vLLM was not ready after {seconds:.0f} s; {self.log} ends\n{self.tail()}")

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def requests_served(self) -> int:
        """Completions that the engine finished since it started (vLLM's own counter, all finish reasons)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(COUNTER)))

    def stop(self) -> None:
        """SIGTERM to the group, so that the engine ends with the server; SIGKILL to whatever is left after 20 s."""
        self._end(signal.SIGTERM, 20)

    def kill(self) -> None:
        """SIGKILL to the group: server and engine die at once, in mid-request."""
        self._end(signal.SIGKILL, 0)

    def _end(self, number: int, patience: float) -> None:
        if self.process is None:
            return
        group = self.process.pid
        signal_group(group, number)
        deadline = time.monotonic() + patience
        while living(group) and time.monotonic() < deadline:
            time.sleep(0.05)
        signal_group(group, signal.SIGKILL)
        while living(group):
            time.sleep(0.02)
        self.process.wait()
        self.process = None

    def tail(self, lines: int = 25) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def cpu_environment() -> dict[str, str]:
    """The variables under which vLLM runs here, for a child that has the engine in its own process."""
    lines = [line for line in (TOOL / "cpu.env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def living(group: int) -> list[int]:
    """The processes of the group that still run; zombies, which may wait long for whoever reaps them, do not count."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
