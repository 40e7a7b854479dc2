"""Everything is wired here, for API, worker and tests alike."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app import migration
from app.adapters.blobs import BlobStore
from app.adapters.database import Database
from app.adapters.local_blobs import LocalBlobs
from app.adapters.notify import RedisNotifier
from app.adapters.queue import CeleryQueue, Queue
from app.adapters.s3_blobs import S3Blobs
from app.services.advice import AdviceService
from app.services.artifacts import ArtifactService
from app.services.datasets import DatasetService
from app.services.idempotency import IdempotencyService
from app.services.jobs import JobService
from app.services.keys import KeyService
from app.services.models import ModelService
from app.services.searches import SearchService
from app.services.sweep import Sweep
from app.services.uploads import UploadService
from app.services.workers import WorkerService
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    blobs: BlobStore
    queue: Queue
    notify: RedisNotifier
    keys: KeyService
    idempotency: IdempotencyService
    uploads: UploadService
    models: ModelService
    datasets: DatasetService
    advice: AdviceService
    jobs: JobService
    searches: SearchService
    artifacts: ArtifactService
    workers: WorkerService
    sweep: Sweep

    def close(self) -> None:
        self.blobs.close()
        self.queue.close()
        self.notify.close()
        self.database.close()


def bootstrap(settings: Settings, queue: Queue | None = None) -> Services:
    """Opens no connection: each part connects when it is first used."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    store = _store(settings)
    redis = settings.redis_url.get_secret_value()
    queue = queue or CeleryQueue(redis)
    notify = RedisNotifier(redis)
    wired = (settings, database, queue, notify)
    models, datasets = ModelService(*wired), DatasetService(*wired)
    return Services(
        settings=settings,
        database=database,
        blobs=store,
        queue=queue,
        notify=notify,
        keys=KeyService(database),
        idempotency=IdempotencyService(database),
        uploads=UploadService(settings, database, store),
        models=models,
        datasets=datasets,
        advice=AdviceService(database, models, datasets),
        jobs=JobService(*wired),
        searches=SearchService(database, queue, notify),
        artifacts=ArtifactService(database),
        workers=WorkerService(database),
        sweep=Sweep(settings, database, store, queue, notify),
    )


def migrate(settings: Settings) -> None:
    """Brings the database to the newest schema; several may call it at once."""
    migration.migrate(settings.database)


def _store(settings: Settings) -> BlobStore:
    url = urlsplit(settings.blobs)
    match url.scheme:
        case "file":
            return LocalBlobs(Path(unquote(url.path)))
        case "s3":
            return S3Blobs(settings, url.netloc)
        case _:
            raise ValueError("PARE_BLOBS_URL must start with file:// or s3://")
