"""The greeting on the server's page. Edit this file while the server runs."""

from datetime import datetime


def greet(now: datetime) -> str:
    """Return the greeting for this hour of the day."""
    if now.hour < 12:
        return "Good morning"
    if now.hour < 18:
        return "Good afternoon"
    return "Good evening"
