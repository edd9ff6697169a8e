"""Telling people by mail that what proves them was changed, so that who didn't do it hears (NIST SP 800-63B-4, 4.6).

A mail that can't be sent is tried no more and never stops a change: the record has it all the same.
"""

from __future__ import annotations

import asyncio
import logging

from rempart.kernel.clock import Clock, rfc3339
from rempart.kernel.errors import RempartError

from ..model import Account, Origin
from ..ports import Mailer

AT_ONCE = 32  # mails under way; beyond, none is sent
_SUBJECTS = {"en": "Your sign-in at {service} was changed", "fr": "Votre connexion à {service} a été modifiée"}
_FRAME = "{hello}\n\n{what}\n\n{when}\n\n{ended}{advice}\n\n{service}\n"
_HELLO = {"en": "Hello,", "fr": "Bonjour,"}
_WHEN = {"en": "When: {when}", "fr": "Quand : {when}"}
_ENDED = {
    "en": "Everything that was signed in has ended. ",
    "fr": "Toutes les connexions ouvertes ont été fermées. ",
}
_ADVICE = {
    "en": "If this was not you, choose a new password at once and tell an administrator.",
    "fr": "Si ce n’était pas vous, choisissez aussitôt un nouveau mot de passe et prévenez un administrateur.",
}
_KEEPS_SESSIONS = frozenset({"e-mail address changed"})
_FRENCH = {
    "authenticator app added": "une application d’authentification a été ajoutée",
    "authenticator app removed": "l’application d’authentification a été retirée",
    "passkey added": "une clé d’accès a été ajoutée",
    "passkey removed": "une clé d’accès a été retirée",
    "backup codes renewed": "les codes de secours ont été renouvelés",
    "all factors removed": "tous les seconds facteurs ont été retirés",
    "password changed": "le mot de passe a été changé",
    "password reset": "le mot de passe a été remplacé par un administrateur",
    "e-mail address changed": "l’adresse électronique du compte a été changée",
}
_ENGLISH = {"password reset": "the password was replaced by an administrator"}
_log = logging.getLogger(__name__)


class Notices:
    def __init__(self, mailer: Mailer, service: str, clock: Clock) -> None:
        self._mailer, self._service, self._clock = mailer, service, clock
        self._working: set[asyncio.Task[None]] = set()

    def tell(self, account: Account, change: str, origin: Origin) -> None:
        """Returns at once. `change` as the record says it; the mail is in the language of who changed it."""
        if len(self._working) >= AT_ONCE:
            _log.warning("a notice was not sent: too many are under way")
            return
        task = asyncio.get_running_loop().create_task(self._send(account.email, change, origin.locale))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def close(self) -> None:
        """Give what is under way a moment."""
        if self._working:
            await asyncio.wait(self._working, timeout=2.0)
        for task in self._working:
            task.cancel()

    async def _send(self, to: str, change: str, locale: str) -> None:
        language = "fr" if locale.lower().startswith("fr") else "en"
        what = (_FRENCH if language == "fr" else _ENGLISH).get(change, change)
        text = _FRAME.format(
            hello=_HELLO[language],
            what=f"{what[:1].upper()}{what[1:]}.",
            when=_WHEN[language].format(when=rfc3339(self._clock.now())),
            ended="" if change in _KEEPS_SESSIONS else _ENDED[language],
            advice=_ADVICE[language],
            service=self._service,
        )
        try:
            await self._mailer.send(to, _SUBJECTS[language].format(service=self._service), text)
        except RempartError as error:
            _log.warning("a notice was not sent: %s", error.code)
