"""What the mails say, in English and French. Plain text."""

from __future__ import annotations

import re

LANGUAGES = ("en", "fr")
_PLAIN_NAME = re.compile(r"[^\W\d_][\w' -]{0,60}")  # a name with a dot or a slash could be another link

_SUBJECTS = {
    "en": {
        "reset": "Choose a new password for {service}",
        "invite": "You are invited to {service}",
        "factor-reset": "Remove your second factors at {service}",
    },
    "fr": {
        "reset": "Choisissez un nouveau mot de passe pour {service}",
        "invite": "Vous êtes invité·e à rejoindre {service}",
        "factor-reset": "Supprimez vos seconds facteurs sur {service}",
    },
}
_FIRST = {
    "en": {
        "reset": "somebody, hopefully you, asked to choose a new password for your account.",
        "invite": "an account was made for you. Choose its password to begin.",
        "factor-reset": "somebody, hopefully you, asked to remove all second factors of your account.",
    },
    "fr": {
        "reset": "quelqu'un, vous espérons-nous, a demandé à choisir un nouveau mot de passe pour votre compte.",
        "invite": "un compte a été créé pour vous. Choisissez son mot de passe pour commencer.",
        "factor-reset": "quelqu'un, vous espérons-nous, a demandé à supprimer tous vos seconds facteurs.",
    },
}
_FRAME = {
    "en": "Hello{name},\n\n{first}\n\nOpen this link within {time}. It works once:\n\n{url}\n\n"
    "If this was not you, do nothing: without the link nothing changes. Never pass it on.\n\n{service}\n",
    "fr": "Bonjour{name},\n\n{first}\n\nOuvrez ce lien dans un délai de {time}. Il ne fonctionne qu'une fois :\n\n"
    "{url}\n\nSi ce n'était pas vous, ne faites rien : sans ce lien, rien ne change. Ne le transmettez à personne.\n\n"
    "{service}\n",
}
_HOURS = {"en": ("minutes", "hours"), "fr": ("minutes", "heures")}


def letter(kind: str, language: str, *, name: str, url: str, service: str, seconds: int) -> tuple[str, str]:
    """Subject and text. An unknown language is English."""
    spoken = language if language in LANGUAGES else "en"
    minutes, hours = _HOURS[spoken]
    time = f"{seconds // 3600} {hours}" if seconds >= 7200 else f"{seconds // 60} {minutes}"
    greeted = f" {name}" if _PLAIN_NAME.fullmatch(name) else ""
    subject = _SUBJECTS[spoken][kind].format(service=service)
    text = _FRAME[spoken].format(name=greeted, first=_FIRST[spoken][kind], time=time, url=url, service=service)
    return subject, text
