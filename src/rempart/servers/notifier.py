"""The notifier process: alerts to people. It reads the log on a socket of its own and holds nothing but its channels'
credentials, the incidents, and what waits to be sent.

Sockets: `admin` (`rempart alert`), `metrics`.
"""

from __future__ import annotations

import logging

from rempart.audit.journal import Journal
from rempart.backends.http_feed import HttpFeed
from rempart.backends.sink_tls import Trust
from rempart.crypto.webhooks import WebhookSigner
from rempart.detection.alerting.api import desk_app, page
from rempart.detection.alerting.desk import Desk
from rempart.detection.alerting.incidents import Pace
from rempart.detection.alerting.ports import Channel
from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Severity
from rempart.wiring.alert_channels import ChannelSettings
from rempart.wiring.process_outlets import NotifierSettings

from .boot import Boot
from .serving import serve


def make_channel(settings: ChannelSettings, pace: Pace, clock: Clock) -> Channel:
    """The one place where types of channels are named."""
    from rempart.backends import channel_http

    trust = Trust(settings.ca)
    if settings.type == "email":
        from rempart.backends.channel_email import EmailChannel
        from rempart.backends.smtp_mailer import Relay, SmtpMailer

        mail = settings.mail
        relay = Relay(mail.host, mail.port, mail.security, mail.sender, mail.username, mail.password, mail.ca)
        return EmailChannel(SmtpMailer(relay), settings.to)
    if settings.type == "slack":
        return channel_http.SlackChannel(settings.url, trust)
    if settings.type == "webhook":
        return channel_http.WebhookChannel(settings.url, WebhookSigner(settings.secret), trust, clock)
    if settings.type == "alertmanager":
        auth = (settings.username, settings.password) if settings.password else None
        return channel_http.AlertmanagerChannel(settings.url, trust, pace.quiet, auth)
    raise BadInput("bad_settings", f"there is no type of channel {settings.type!r}", "see docs/alerts.md")


async def run(boot: Boot, settings: NotifierSettings) -> None:
    """Serve until SIGTERM. What is on its way then is sent again after the next start."""
    boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock, journal, feed = SystemClock(), Journal(boot.journal_dir, boot.name), HttpFeed(settings.feed_socket)
    channels = {one.name: (make_channel(one, settings.pace, clock), Severity(one.least)) for one in settings.channels}
    desk = Desk(feed, channels, settings.pace, boot.data_dir / "incidents", clock, journal)
    app = desk_app(desk, lambda: page(desk))
    try:
        await serve(boot, {"admin": app, "metrics": app}, desk.follow(), *(one.run() for one in desk.deliveries))
        desk.save()
    finally:
        await feed.close()
        journal.close()


def main() -> None:
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    boot = Boot.from_environment()
    settings = boot.read_settings(NotifierSettings)
    uvloop.run(run(boot, settings))


if __name__ == "__main__":
    main()
