"""Run `python -m evreload app.py` in this directory, then edit greeting.py.

Or run `python -m evreload -m quart run --no-reload`: Quart's own reloader must be off.
"""

import os

from greeting import GREETING
from quart import Quart

app = Quart(__name__)


@app.get("/")
async def page() -> dict[str, str | int]:
    return {"greeting": GREETING, "pid": os.getpid()}


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), debug=True, use_reloader=False)
