"""Chromium with a key of its device, which it keeps in software here: Device Bound Session Credentials want a TPM."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import BrowserContext, sync_playwright
from tests.browser.conftest import CHROMIUM

FEATURES = "DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"


@contextlib.contextmanager
def device_browser(profile: Path, *certificates: bytes) -> Iterator[BrowserContext]:
    """With a profile of its own, since where nothing is kept Chromium binds nothing. It trusts these certificates (PEM)
    by their keys: a site whose certificate is wrong gets no bound session."""
    trusted = ",".join(map(_fingerprint, certificates))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            args=["--no-sandbox", f"--enable-features={FEATURES}", f"--ignore-certificate-errors-spki-list={trusted}"],
            locale="en-GB",
        )
        yield context
        context.close()


def cookies(browser: BrowserContext) -> dict[str, Any]:
    return {cookie["name"]: cookie for cookie in browser.cookies()}


def _fingerprint(certificate: bytes) -> str:
    key = x509.load_pem_x509_certificate(certificate).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
