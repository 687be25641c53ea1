"""Four shapes of a route that overlap; which one answers never depends on the order they are written in.

In one segment text beats a typed parameter, which beats a parameter with text around it, which beats a plain
parameter, which beats the rest of the path. The routes stand here in the opposite order, to show it.
"""

from prologue import App, Context, Settings

app = App(Settings(app_name="optimized_routing"))


@app.get("/files/{rest}$", name="file")
def file(ctx: Context) -> dict[str, object]:
    return {"route": "the rest of the path", "rest": ctx.get_path_params("rest")}


@app.get("/{name}", name="page")
def named_page(ctx: Context) -> dict[str, object]:
    return {"route": "a parameter", "name": ctx.get_path_params("name")}


@app.get("/img-{n:int}.png", name="image")
def image(ctx: Context) -> dict[str, object]:
    return {"route": "text around a parameter", "n": ctx.get_path_params("n", 0)}


@app.get("/users/{id:int}", name="user")
def user(ctx: Context) -> dict[str, object]:
    return {"route": "a typed parameter", "id": ctx.get_path_params("id", 0)}


@app.get("/users/me", name="me")
def me(ctx: Context) -> dict[str, object]:
    return {"route": "text", "user": ctx.url_for("user", id=1)}


@app.get("/", name="index")
def index(ctx: Context) -> dict[str, object]:
    return {"route": "the root", "routes": [route.pattern for route in app.routes]}


if __name__ == "__main__":
    app.run()
