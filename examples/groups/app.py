"""Groups: one prefix, with middlewares and error handlers of its own, one inside another."""

from prologue import App, Context, Group, Settings
from prologue.errors import HTTPError

app = App(Settings(app_name="groups"))

TOKENS = {"secret-of-the-editor": "editor"}


def mark_version(ctx: Context) -> None:
    """Run for every route under /api."""
    ctx.next()
    ctx.response.headers["X-Api-Version"] = "1"


def require_token(ctx: Context) -> None:
    """Run for the routes under /api/admin only: who has no token never reaches a handler."""
    scheme, _, token = ctx.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or token not in TOKENS:
        raise HTTPError(401, "a token is needed", [("WWW-Authenticate", "Bearer")])
    ctx.state.user = TOKENS[token]
    ctx.next()


api = Group(app, "/api", middlewares=[mark_version])
admin = Group(app, "/admin", middlewares=[require_token], parent=api)


@app.get("/")
def index(ctx: Context) -> str:
    return "<h1>Groups</h1>"


@api.get("/articles/{id:int}", name="article")
def article(ctx: Context) -> dict[str, object]:
    number = ctx.get_path_params("id", 0)
    if number > 100:
        raise KeyError(number)
    return {"id": number}


@admin.get("/whoami")
def whoami(ctx: Context) -> dict[str, str]:
    return {"user": ctx.state.user}


def error_as_json(ctx: Context, error: HTTPError) -> tuple[dict[str, str], int, tuple[tuple[str, str], ...]]:
    return {"error": error.body}, error.status, error.headers


def missing_article(ctx: Context, error: KeyError) -> tuple[dict[str, str], int]:
    return {"error": f"no article {error}"}, 404


def not_found_as_json(ctx: Context) -> tuple[dict[str, str], int]:
    return {"error": "no such address"}, 404


# A program that calls the API gets its errors in JSON; everybody else gets the usual page.
api.register_error_handler(HTTPError, error_as_json)
api.register_error_handler(KeyError, missing_article)
api.register_error_handler(404, not_found_as_json)


if __name__ == "__main__":
    app.run()
