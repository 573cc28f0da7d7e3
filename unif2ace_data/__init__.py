"""Raw photographs to verified face image-text shards. `unif2ace-data --help` lists the commands."""

import os

# Nothing of a run goes to anybody. Asked for nothing, these libraries report to their makers what they load and run, and
# ONNX Runtime keeps an identifier of the machine. Whoever wants that sets them to 0.
for _name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS"):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"
