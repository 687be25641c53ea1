"""A tour on one page: links to each kind of route."""

from html import escape

from prologue import App, Context, Settings

app = App(Settings(app_name="hello"))


def page(title: str, content: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
body {{ max-width: 42rem; margin: 3rem auto; padding: 0 1rem; font: 1.1rem/1.6 system-ui, sans-serif; }}
code, input, button {{ font-size: 1rem; }}
</style>
</head>
<body>
<h1>{escape(title)}</h1>
{content}
</body>
</html>
"""


@app.get("/", name="start")
def start(ctx: Context) -> str:
    return page(
        "Hello, Prologue!",
        f"""<p>This page is <code>examples/hello/app.py</code>. Each link is one of its routes:</p>
<ul>
<li><a href="{ctx.url_for("greet", name="World")}">/hello/World</a>:
a path parameter; write another name into the address</li>
<li><a href="{ctx.url_for("square", number=12)}">/square/12</a>: a typed parameter, and an answer in JSON;
<a href="/square/twelve">/square/twelve</a> is not a number, and so not found</li>
<li><a href="{escape(ctx.url_for("echo", {}, {"word": ["tea", "чай"]}))}">/echo?word=tea&amp;word=чай</a>:
a query, its repeated key a list</li>
<li><a href="/nowhere">/nowhere</a>: no route; an error handler answers with a page of its own</li>
</ul>
<form method="post" action="{ctx.url_for("greet_form")}">
<label>A form: <input name="name" value="World"></label> <button>Greet</button>
</form>""",
    )


@app.get("/hello/{name}", name="greet")
def greet(ctx: Context) -> str:
    # What a client sends is escaped before it becomes a part of a page.
    return page(f"Hello, {ctx.get_path_params('name')}!", back(ctx))


@app.post("/hello", name="greet_form")
def greet_form(ctx: Context) -> str:
    return page(f"Hello, {ctx.get_form_params('name', 'stranger')}!", back(ctx))


@app.get("/square/{number:int}", name="square")
def square(ctx: Context) -> dict[str, int]:
    number = ctx.get_path_params("number", 0)
    return {"number": number, "square": number * number}


@app.get("/echo", name="echo")
def echo(ctx: Context) -> dict[str, list[str]]:
    return {"words": ctx.get_query_params("word", ["nothing"])}


def not_found(ctx: Context) -> tuple[str, int]:
    return page("Nothing here", f"<p><code>{escape(ctx.path)}</code> is not a route.</p>{back(ctx)}"), 404


app.register_error_handler(404, not_found)


def back(ctx: Context) -> str:
    return f'<p><a href="{ctx.url_for("start")}">Back to the start</a></p>'


if __name__ == "__main__":
    app.run()
