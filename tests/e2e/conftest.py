from collections.abc import Iterator

import pytest

from tests import servers
from tests.conftest import NewSettings
from tests.service import Service, serving

LEASE = 4


@pytest.fixture(scope="module", params=["embedded"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_settings: NewSettings
) -> Iterator[Service]:
    """Of a module's own, with one worker and short leases; a module that says so gets it on both settings."""
    directory = tmp_path_factory.mktemp("service")
    with servers.valkey() as broker:
        settings = new_settings(request.param, directory / "data", broker.url)
        quick = settings.model_copy(update={"lease_seconds": LEASE})
        with serving(quick, directory / "service.log") as running:
            yield running
