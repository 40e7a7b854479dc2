"""What the warm process loads must be there on every worker, with no extra but the engine's."""

import subprocess
import sys
from pathlib import Path

_WITHOUT = """
import sys
LATE = {"PIL", "pyarrow", "keras", "h5py", "openvino", "flatbuffers", "ai_edge_litert", "tokenizers",
        "transformers", "onnx_ir", "onnxscript"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in LATE:
            raise ModuleNotFoundError(name, name=name.split(".")[0])
sys.meta_path.insert(0, Missing())
import compression
from workers import forkserver
print(len([forkserver._warm(name) for name in forkserver._modules(compression.__path__, "compression.")]))
"""


def test_it_needs_no_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
