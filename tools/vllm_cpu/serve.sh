#!/usr/bin/env bash
# Serve a tiny model folder with vLLM's OpenAI-compatible server on the CPU, on loopback.   serve.sh MODEL_DIR PORT
# The model is called tiny-vlm. Runs in the foreground; GET /health answers 200 when it is ready. VLLM_VENV: the
# environment that install.sh made. SIGTERM to the process group ends server and engine.
set -euo pipefail
model=${1:?give the model folder}; port=${2:?give the port}
here=$(cd "$(dirname "$0")" && pwd)
venv=${VLLM_VENV:-$here/../../.venv-vllm}

set -a; . "$here/cpu.env"; set +a

# 512 bytes of cache a token: 256M hold 64 sequences of 8,000 tokens.
# disable_any_whitespace: else a random model pads JSON with white space until max_tokens.
exec "$venv/bin/vllm" serve "$model" --served-model-name tiny-vlm \
    --host 127.0.0.1 --port "$port" \
    --dtype bfloat16 --enforce-eager --seed 0 \
    --max-model-len 16384 --max-num-seqs 64 --max-num-batched-tokens 8192 \
    --kv-cache-memory-bytes 256M \
    --limit-mm-per-prompt '{"image": 1, "video": 0}' \
    --structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'
