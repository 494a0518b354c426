"""The settings that a site needs at least."""

DEBUG = True
SECRET_KEY = "only an example"
ROOT_URLCONF = "views"
USE_TZ = True
