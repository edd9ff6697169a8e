"""What the supervisor tells who tells others, the shipper and the notifier: see `process_settings`."""

from __future__ import annotations

import msgspec

from rempart.detection.alerting.incidents import Pace

from .alert_channels import ChannelSettings
from .audit_sinks import SinkSettings


class ShipperSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's; `host_name` stands in syslog messages."""

    sinks: list[SinkSettings]
    feed_socket: str
    host_name: str


class NotifierSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's."""

    channels: list[ChannelSettings]
    pace: Pace
    feed_socket: str
