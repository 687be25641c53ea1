"""One small application, written for each framework as its documentation does.

Every application has the same routes, and a number of middlewares that do nothing around the handler:

============================  ======================================
``GET /``                     a line of text, as HTML
``GET /users/{id}``           the same with the parameter
``GET /json``                 a JSON object
``GET /page``                 10 kB of HTML
``POST /form``                two fields of a urlencoded form
============================  ======================================

Debugging is off everywhere, and no framework is asked for anything that the others do not do.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["DOCUMENT", "OURS", "PAGE", "PEERS", "TEXT", "Peer"]

F = TypeVar("F")

OURS = "prologue"
TEXT = "Hello, World!"
DOCUMENT = {"message": "Hello, World!"}
PAGE = "<!doctype html><title>Page</title>" + "<p>Reduce magic. Reduce surprise.</p>\n" * 270


class Peer(NamedTuple):
    """A framework: what it needs to be installed, and what builds its application."""

    modules: tuple[str, ...]
    build: Callable[[int], WSGIApplication]

    @property
    def installed(self) -> bool:
        """Whether all that it needs is there."""
        return all(importlib.util.find_spec(name) for name in self.modules)


def wrap(function: F, around: Callable[[F], F], times: int) -> F:
    """Return a function with so many others around it."""
    for _ in range(times):
        function = around(function)
    return function


def bare(middlewares: int) -> WSGIApplication:
    """Build the least that answers: no framework at all."""
    headers = [("Content-Type", "text/html; charset=utf-8")]

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        kind = headers
        if path == "/":
            body = TEXT.encode()
        elif path.startswith("/users/"):
            body = f"user {path[7:]}".encode()
        elif path == "/json":
            kind = [("Content-Type", "application/json")]
            body = json.dumps(DOCUMENT).encode()
        elif path == "/page":
            body = PAGE.encode()
        elif path == "/form":
            fields = parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
            body = f"{fields['name'][0]} {fields['city'][0]}".encode()
        else:
            start_response("404 Not Found", headers)
            return [b"Not Found"]
        start_response("200 OK", [*kind, ("Content-Length", str(len(body)))])
        return [body]

    def around(inner: WSGIApplication) -> WSGIApplication:
        return lambda environ, start_response: inner(environ, start_response)

    innermost: WSGIApplication = application
    return wrap(innermost, around, middlewares)


def prologue_app(middlewares: int) -> WSGIApplication:
    """Build ours."""
    from prologue import App, Context

    def form(ctx: Context) -> str:
        return f"{ctx.get_post_params('name')} {ctx.get_post_params('city')}"

    def passing(ctx: Context) -> None:
        ctx.next()

    app = App(middlewares=[passing] * middlewares)
    app.get("/", lambda ctx: TEXT)
    app.get("/users/{id}", lambda ctx: f"user {ctx.path_params['id']}")
    app.get("/json", lambda ctx: DOCUMENT)
    app.get("/page", lambda ctx: PAGE)
    app.post("/form", form)
    return app


def falcon_app(middlewares: int) -> Any:
    """Build Falcon's: App as it comes."""
    import falcon

    class Text:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.content_type = falcon.MEDIA_HTML
            resp.text = TEXT

    class User:
        def on_get(self, req: Any, resp: Any, id: str) -> None:
            resp.content_type = falcon.MEDIA_HTML
            resp.text = f"user {id}"

    class Document:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.media = DOCUMENT

    class Page:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.content_type = falcon.MEDIA_HTML
            resp.text = PAGE

    class Form:
        def on_post(self, req: Any, resp: Any) -> None:
            fields = req.get_media()
            resp.content_type = falcon.MEDIA_HTML
            resp.text = f"{fields['name']} {fields['city']}"

    class Passing:
        def process_request(self, req: Any, resp: Any) -> None:
            pass

        def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
            pass

    app = falcon.App(middleware=[Passing() for _ in range(middlewares)])
    app.add_route("/", Text())
    app.add_route("/users/{id}", User())
    app.add_route("/json", Document())
    app.add_route("/page", Page())
    app.add_route("/form", Form())
    return app


def falcon_msgspec_app(middlewares: int) -> Any:
    """Build Falcon's with msgspec as its JSON handler, as its recipe does, encoder and decoder made once."""
    import falcon
    import falcon.media
    import msgspec

    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    handler = falcon.media.JSONHandler(dumps=encode, loads=decode)
    app = falcon_app(middlewares)
    app.req_options.media_handlers[falcon.MEDIA_JSON] = handler
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = handler
    return app


def bottle_app(middlewares: int) -> Any:
    """Build Bottle's; its middlewares are plugins."""
    import bottle

    def form() -> str:
        return f"{bottle.request.forms.get('name')} {bottle.request.forms.get('city')}"

    def passing(callback: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(callback)
        def inner(*args: Any, **values: Any) -> Any:
            return callback(*args, **values)

        return inner

    app = bottle.Bottle()
    for _ in range(middlewares):
        app.install(lambda callback: passing(callback))
    app.get("/", callback=lambda: TEXT)
    app.get("/users/<id>", callback=lambda id: f"user {id}")
    app.get("/json", callback=lambda: DOCUMENT)
    app.get("/page", callback=lambda: PAGE)
    app.post("/form", callback=form)
    return app


def flask_app(middlewares: int) -> WSGIApplication:
    """Build Flask's; a middleware is a function before and one after the request."""
    import flask

    def form() -> str:
        return f"{flask.request.form['name']} {flask.request.form['city']}"

    app = flask.Flask("benchmark", static_folder=None)
    for _ in range(middlewares):
        app.before_request(lambda: None)
        app.after_request(lambda response: response)
    app.add_url_rule("/", "text", lambda: TEXT)
    app.add_url_rule("/users/<id>", "user", lambda id: f"user {id}")
    app.add_url_rule("/json", "document", lambda: DOCUMENT)
    app.add_url_rule("/page", "page", lambda: PAGE)
    app.add_url_rule("/form", "form", form, methods=["POST"])
    return app.wsgi_app


def django_passing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a middleware of Django's, which finds it by name."""

    def inner(request: Any) -> Any:
        return get_response(request)

    return inner


def django_app(middlewares: int) -> Any:
    """Build Django's: no installed application, no middleware but those that are measured."""
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, JsonResponse
    from django.urls import path

    def form(request: Any) -> Any:
        return HttpResponse(f"{request.POST['name']} {request.POST['city']}")

    if not settings.configured:
        import django

        urls = (
            path("", lambda request: HttpResponse(TEXT)),
            path("users/<str:id>", lambda request, id: HttpResponse(f"user {id}")),
            path("json", lambda request: JsonResponse(DOCUMENT)),
            path("page", lambda request: HttpResponse(PAGE)),
            path("form", form),
        )
        settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, USE_I18N=False)
        django.setup()
    settings.MIDDLEWARE = [f"{__name__}.django_passing"] * middlewares
    return WSGIHandler()


def pyramid_passing(handler: Callable[[Any], Any], registry: object) -> Callable[[Any], Any]:
    """Make a tween of Pyramid's, which finds it by name."""

    def inner(request: Any) -> Any:
        return handler(request)

    return inner


# Pyramid takes a tween once under each name.
tween_0 = tween_1 = tween_2 = tween_3 = tween_4 = pyramid_passing


def pyramid_app(middlewares: int) -> Any:
    """Build Pyramid's."""
    from pyramid.config import Configurator
    from pyramid.response import Response

    def form(request: Any) -> Any:
        return Response(f"{request.POST['name']} {request.POST['city']}")

    config = Configurator()
    for number in range(middlewares):
        config.add_tween(f"{__name__}.tween_{number}")
    views: tuple[tuple[str, str, Callable[[Any], Any], dict[str, str]], ...] = (
        ("text", "/", lambda request: Response(TEXT), {}),
        ("user", "/users/{id}", lambda request: Response(f"user {request.matchdict['id']}"), {}),
        ("document", "/json", lambda request: DOCUMENT, {"renderer": "json"}),
        ("page", "/page", lambda request: Response(PAGE), {}),
        ("form", "/form", form, {"request_method": "POST"}),
    )
    for name, pattern, view, predicates in views:
        config.add_route(name, pattern)
        config.add_view(view, route_name=name, **predicates)
    return config.make_wsgi_app()


def werkzeug_app(middlewares: int) -> WSGIApplication:
    """Build one of werkzeug alone, as its tutorial does; the middlewares are functions around the view."""
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import Map, Rule
    from werkzeug.wrappers import Request, Response

    def html(text: str) -> Response:
        return Response(text, mimetype="text/html")

    views: dict[str, Callable[..., Response]] = {
        "text": lambda request: html(TEXT),
        "user": lambda request, id: html(f"user {id}"),
        "document": lambda request: Response(json.dumps(DOCUMENT), mimetype="application/json"),
        "page": lambda request: html(PAGE),
        "form": lambda request: html(f"{request.form['name']} {request.form['city']}"),
    }
    rules = {"text": "/", "user": "/users/<id>", "document": "/json", "page": "/page", "form": "/form"}
    url_map = Map([Rule(rule, endpoint=name) for name, rule in rules.items()])

    def dispatch(request: Request) -> Any:
        try:
            endpoint, values = url_map.bind_to_environ(request.environ).match()
            return views[endpoint](request, **values)
        except HTTPException as error:
            return error

    def around(inner: Callable[[Request], Any]) -> Callable[[Request], Any]:
        return lambda request: inner(request)

    innermost: Callable[[Request], Any] = dispatch
    outermost = wrap(innermost, around, middlewares)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer: Iterable[bytes] = outermost(Request(environ))(environ, start_response)
        return answer

    return application


PEERS = {
    "bare callable": Peer((), bare),
    OURS: Peer(("prologue",), prologue_app),
    "falcon": Peer(("falcon",), falcon_app),
    "falcon with msgspec": Peer(("falcon", "msgspec"), falcon_msgspec_app),
    "bottle": Peer(("bottle",), bottle_app),
    "flask": Peer(("flask",), flask_app),
    "django": Peer(("django",), django_app),
    "pyramid": Peer(("pyramid",), pyramid_app),
    "werkzeug alone": Peer(("werkzeug",), werkzeug_app),
}
