"""The page that `python -m evreload manage.py runserver --noreload` serves."""

import os

from django.http import HttpRequest, JsonResponse
from django.urls import path
from greeting import GREETING


def page(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"greeting": GREETING, "pid": os.getpid()})


urlpatterns = [path("", page)]
