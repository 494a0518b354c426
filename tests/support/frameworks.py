"""The servers of the examples, and the command that runs each."""

from __future__ import annotations

from typing import NamedTuple


class Server(NamedTuple):
    example: str
    command: str
    needs: str  # packages
    worker_message: str = ""  # what it prints for each worker, before the process id
    shutdown_message: str = ""  # what it prints when it shuts down


SERVERS = {
    "uvicorn": Server(
        "fastapi",
        "-m uvicorn --port {port} app:app",
        "fastapi uvicorn",
        shutdown_message="shuts down cleanly",
    ),
    "uvicorn-workers": Server(
        "fastapi",
        "-m uvicorn --workers 2 --port {port} app:app",
        "fastapi uvicorn",
        worker_message="Started server process [",
    ),
    "flask-run": Server("flask", "-m flask run --no-reload --port {port}", "flask"),
    "flask-debug": Server("flask", "-m flask --debug run --no-reload --port {port}", "flask"),
    "flask-app.run": Server("flask", "app.py", "flask"),
    "django": Server("django", "manage.py runserver --noreload {port}", "django"),
    "aiohttp": Server("aiohttp", "app.py", "aiohttp", shutdown_message="shuts down cleanly"),
    "gunicorn": Server(
        "gunicorn",
        "-m gunicorn -w 2 -b 127.0.0.1:{port} app:app",
        "gunicorn",
        worker_message="Booting worker with pid: ",
    ),
    "hypercorn": Server(
        "hypercorn", "-m hypercorn -b 127.0.0.1:{port} app:app", "hypercorn starlette"
    ),
    "quart-run": Server("quart", "-m quart run --no-reload --port {port}", "quart"),
    "quart-app.run": Server("quart", "app.py", "quart"),
}
