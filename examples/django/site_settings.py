"""A site in as few settings as can be: `python -m evreload manage.py runserver --noreload`."""

DEBUG = True
SECRET_KEY = "only an example"
ROOT_URLCONF = "views"
USE_TZ = True
