"""Telling people, through apprise's services; an address may hold a password and is never shown."""

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path


def alert(urls: Sequence[str], title: str, text: str) -> list[str]:
    """Send to every address, each whether or not the others worked; returns what did not work, a sentence each."""
    if not urls:
        return []
    try:
        import apprise
    except ImportError:
        return ["alert_urls is set, but apprise is not installed (the extra `alerts`)"]
    # The library logs an address that it cannot use, password and all.
    logging.getLogger("apprise").disabled = True
    problems = []
    for number, url in enumerate(urls, start=1):
        scheme = url.partition(":")[0] if ":" in url else "no scheme"
        where = f"alert address {number} ({scheme if scheme.isalnum() else 'no scheme'})"
        sender = apprise.Apprise()
        if not sender.add(url):
            problems.append(f"{where} is none that apprise knows")
            continue
        # Whatever a service's module raises: an alert must not stop what it tells of.
        try:
            sent = sender.notify(body=text, title=title)
        except Exception as error:
            problems.append(f"{where} failed ({type(error).__name__})")
            continue
        if not sent:
            problems.append(f"{where} did not take it")
    return problems


def is_news(ledger: Path, model: str, state: str) -> bool:
    """Whether a watch says another thing than at its last look; remembered beside the ledger, as well as it can be."""
    memory = ledger.parent / f".watch-{model}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if memory.read_text(encoding="utf-8") == state:
            return False
    with contextlib.suppress(OSError):
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_text(state, encoding="utf-8")
        draft.replace(memory)
    return True
