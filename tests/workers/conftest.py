from collections.abc import Iterator

import pytest

from workers import landlock
from workers.sandbox import Sandbox


@pytest.fixture(scope="package")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")
    made = Sandbox()
    made.examine(tmp_path_factory.mktemp("examined"))
    yield made
    made.stop()
