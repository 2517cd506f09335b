"""Installations of onnxruntime that children of the tests find in the place of the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

FAKE = Path(__file__).with_name("fake_onnxruntime.py")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
ON_GPU = [TENSORRT, CUDA, CPU]


class Runtime:
    """A pretended installation, which is in force while `monkeypatch` is.

    Parameters
    ----------
    folder : Path
    monkeypatch : pytest.MonkeyPatch
    installed : dict of str to str
        Versions of packages.
    behaviour
        See `support.fake_onnxruntime`.
    """

    def __init__(self, folder, monkeypatch, *, installed=None, **behaviour):
        self._home = folder / "onnxruntime"
        (self._home / "capi").mkdir(parents=True)
        shutil.copy(FAKE, self._home / "__init__.py")
        for name in ("shared", "cuda", "tensorrt"):
            (self._home / "capi" / f"libonnxruntime_providers_{name}.so").touch()
            (self._home / "capi" / f"onnxruntime_providers_{name}.dll").touch()
        settings = {"providers": ON_GPU, "devices": ["Fast GPU", "Slow GPU"], **behaviour}
        (self._home / "behaviour.json").write_text(json.dumps(settings), encoding="utf-8")
        for package, version in (installed or {}).items():
            info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            (info / "METADATA").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder))

    @property
    def seen(self):
        """What the children have noted."""
        seen = {}
        for line in (self._home / "seen.jsonl").read_text(encoding="utf-8").splitlines():
            key, value = json.loads(line)
            seen.setdefault(key, []).append(value)
        return seen
