"""The fewest settings that a site needs: `python -m evreload manage.py runserver --noreload`."""

DEBUG = True
SECRET_KEY = "only an example"
ROOT_URLCONF = "views"
USE_TZ = True
