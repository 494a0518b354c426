"""Run `python -m evreload app.py` in this directory, then edit greeting.py.

Or run `python -m evreload -m flask run --no-reload`: Flask's own reloader must be off.
"""

import os

from flask import Flask
from greeting import GREETING

app = Flask(__name__)


@app.get("/")
def page() -> dict[str, str | int]:
    return {"greeting": GREETING, "pid": os.getpid()}


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), debug=True, use_reloader=False)
