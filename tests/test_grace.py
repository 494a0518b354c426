"""Requests in progress, where the servers are not what they are expected to be."""

from __future__ import annotations

import asyncio

import tornado.web

from evreload._program.runner import tornado_drain as _grace


class OfItsOwnKind(tornado.web.RequestHandler):
    def __init__(self):
        """Leave out what Tornado's own does."""


def test_what_is_not_known_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(_grace, "_servers", lambda: [object()])
    servers = _grace.Grace()
    assert asyncio.run(servers.finish(60)) == []
    assert caplog.messages == ["requests in progress cannot be waited for"]
    servers.resume()


def test_a_handler_without_a_request_is_passed_over():
    handler = OfItsOwnKind()
    assert list(_grace._endless()) == []
    del handler
