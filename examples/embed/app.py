"""Prologue inside Flask and Django, and another WSGI application inside Prologue.

An App is a WSGI callable, so it goes wherever one goes. Each of the three can be served:

    gunicorn app:app            ours, with the old application under /legacy
    gunicorn app:in_flask       a Flask application, with ours under /prologue
    gunicorn app:in_django      a Django project, with ours under /prologue
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from prologue import App, Context, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# -- Ours, with any other WSGI application inside ------------------------------------------------------

app = App(Settings(app_name="embed"))


@app.get("/users/{id:int}", name="user")
def user(ctx: Context) -> dict[str, object]:
    # The address is right wherever the application is mounted.
    return {"id": ctx.get_path_params("id", 0), "url": ctx.url_for("user", id=1)}


def old_application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"the old application, at {environ['SCRIPT_NAME']}, is asked for {environ['PATH_INFO']}".encode()]


app.mount("/legacy", old_application)


# -- Ours inside a Flask application -------------------------------------------------------------------

flask_app = flask.Flask(__name__)


@flask_app.get("/")
def flask_index() -> str:
    return "Flask"


in_flask = DispatcherMiddleware(flask_app.wsgi_app, {"/prologue": app})


# -- Ours inside a Django project: the same, in its wsgi.py --------------------------------------------


def django_index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Django")


urlpatterns = [path("", django_index)]

django_settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])
in_django = DispatcherMiddleware(get_wsgi_application(), {"/prologue": app})


if __name__ == "__main__":
    app.run()
