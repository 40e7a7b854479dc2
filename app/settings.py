"""Every setting of API and workers, from the environment (PARE_…). Secrets never print."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1 << 30


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PARE_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default=Path("pare-data"), description="everything of the embedded default lives here"
    )
    database_url: SecretStr = Field(default=SecretStr(""), description="default: SQLite in data_dir")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    blobs_url: str = Field(
        default="", description="file:///directory or s3://bucket; default: a directory in data_dir"
    )
    s3_endpoint_url: str | None = None
    s3_public_endpoint_url: str | None = Field(
        default=None, description="where clients reach the store, if elsewhere: host of the presigned URLs"
    )
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None
    s3_region: str = "us-east-1"

    host: str = "127.0.0.1"
    port: int = 8000
    log_format: Literal["json", "console"] = "console"

    max_model_bytes: int = 2 * GIB
    max_dataset_bytes: int = 8 * GIB
    max_form_bytes: int = Field(
        default=64 << 20, description="files sent in a form; larger ones use an upload"
    )
    max_json_bytes: int = 1 << 20
    body_idle_seconds: float = Field(
        default=15, description="a body that sends nothing for so long is given up"
    )
    body_min_rate: int = Field(
        default=16 << 10, description="bytes per second a body must keep up on average"
    )
    disk_floor_bytes: int = Field(
        default=2 * GIB, description="uploads are refused below this much free space"
    )
    disk_floor_fraction: float = Field(default=0.05, description="… or below this share of the disk")

    job_timeout_seconds: int = Field(default=4 * 3600, description="longest time a job may ask for")
    job_memory_bytes: int = 4 * GIB
    worker_concurrency: int = 1
    worker_queues: str = "cpu"
    sandbox_floor: Literal["S0", "S1", "S2"] = Field(
        default="S1", description="a worker refuses to start where its self-test finds less isolation"
    )
    allow_pt2: bool = Field(
        default=False,
        description="whether PyTorch's exported programs are read: their reader is trusted less than others, "
        "so only where the sandbox holds at level S2",
    )
    lease_seconds: int = 60
    max_attempts: int = Field(
        default=3, description="attempts at one step before a job or inspection is given up"
    )

    @cached_property
    def database(self) -> str:
        return self.database_url.get_secret_value() or f"sqlite:///{self.data_dir.absolute() / 'pare.db'}"

    @cached_property
    def blobs(self) -> str:
        return self.blobs_url or f"file://{self.data_dir.absolute() / 'blobs'}"
