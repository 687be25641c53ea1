"""Values that are expensive to make are kept for a while, and made once however many ask at the same time."""

import itertools

from prologue import App, Context, Settings
from prologue.cache import MISSING, InMemoryCache, cached, init_cache

app = App(Settings(app_name="caching"))
cache = InMemoryCache(max_entries=1000)
init_cache(app, cache)

#: How often a report was made.
made = itertools.count(1)


@cached(cache, key="report:{name}", ttl=60)
def report(name: str) -> dict[str, object]:
    """Stand for something slow: a query, a call of another service."""
    return {"name": name, "made": next(made)}


@app.get("/reports/{name}")
def show_report(ctx: Context) -> dict[str, object]:
    return report(ctx.get_path_params("name", ""))


@app.post("/reports/{name}/refresh")
def refresh_report(ctx: Context) -> dict[str, object]:
    return report.refresh(ctx.get_path_params("name", ""))


@app.get("/notes/{key}")
def read_note(ctx: Context) -> tuple[dict[str, object], int]:
    text = cache.get(ctx.get_path_params("key", ""), MISSING)
    return ({"text": None}, 404) if text is MISSING else ({"text": text}, 200)


@app.put("/notes/{key}")
def write_note(ctx: Context) -> dict[str, object]:
    """Keep the text of the form for as many seconds as it says; 0 is for ever."""
    ttl = ctx.get_form_params("ttl", 60.0)
    cache.set(ctx.get_path_params("key", ""), ctx.get_form_params("text", ""), ttl=ttl)
    return {"kept": ttl}


@app.delete("/notes/{key}")
def delete_note(ctx: Context) -> dict[str, object]:
    return {"deleted": cache.delete(ctx.get_path_params("key", ""))}


@app.delete("/notes")
def clear(ctx: Context) -> dict[str, object]:
    cache.clear()
    return {"entries": cache.stats().entries}


if __name__ == "__main__":
    app.run()
