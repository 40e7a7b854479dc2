import subprocess
import sys

from app.settings import Settings

_IMPORT = """
import sys, app.main
heavy = {"torch", "onnx", "onnxruntime", "onnxslim", "numpy"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""


def test_the_api_loads_no_runtime() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_secrets_do_not_print() -> None:
    settings = Settings(
        database_url="postgresql://u:hunter2@h/d",
        redis_url="redis://:hunter2@h",
        s3_secret_key="hunter2",  # noqa: S106  what must not show
    )
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
