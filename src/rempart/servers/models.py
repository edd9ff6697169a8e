"""The models process: learns from the log, rates it, tells the PDP whose risk is raised.

Sockets: `metrics`, `admin` (`rempart models`), `risk` (the PDP follows it). It reads the log on `run/feed/models.sock`,
writes its own journal, its own state and model files, and reaches nothing else. Training is a child process.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from rempart.audit.journal import Journal
from rempart.backends.geo_csv import GeoCsv
from rempart.backends.http_feed import HttpFeed
from rempart.detection.models.api import models_app
from rempart.detection.models.keeping import ModelFiles, open_signer
from rempart.detection.models.metrics import page
from rempart.detection.models.stream import Stream
from rempart.detection.models.watch import Watch
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput
from rempart.wiring.process_settings import ModelsSettings

from .boot import Boot
from .detector import JournaledAlerts
from .model_training import ChildTrainer
from .serving import serve


async def run(boot: Boot, settings: ModelsSettings) -> None:
    """Serve until SIGTERM; then save how far it is."""
    boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = boot.keys.get(boot.name)
    if key is None:
        raise BadInput("no_key", "the models were given no key", "start it with `rempart up`")
    journal, feed = Journal(boot.journal_dir, boot.name), HttpFeed(settings.feed_socket)
    signer = open_signer(boot.data_dir / "signing.key.sealed", settings.trust_domain, key)
    replace_file(boot.data_dir / "models.vkey", signer.verifier_key.encode() + b"\n", 0o644)
    places = GeoCsv.read(Path(settings.geo_file)) if settings.geo_file else None
    watch = Watch(
        Stream(places),
        feed,
        JournaledAlerts(journal),
        ModelFiles(boot.data_dir / "models", signer),
        ChildTrainer(),
        boot.data_dir / "state",
        key,
        least=settings.least,
    )
    app = models_app(watch, lambda: page(watch))
    risks = await asyncio.start_unix_server(watch.risks.serve, sock=boot.sockets["risk"])
    try:
        await serve(boot, {"admin": app, "metrics": app}, watch.follow(), watch.train_on_schedule())
        watch.save()
    finally:
        risks.close()
        await feed.close()
        journal.close()


def main() -> None:
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    boot = Boot.from_environment()
    settings = boot.read_settings(ModelsSettings)
    uvloop.run(run(boot, settings))


if __name__ == "__main__":
    main()
