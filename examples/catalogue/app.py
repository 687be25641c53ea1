"""A product catalogue with every engine at once, in two workers: what scripts/demo serves.

    gunicorn -c python:prologue.server.hooks -k prologue.server.ThreadWorker -w 2 --threads 4 app:app

As it is, products are in SQLite and each worker caches in its own memory. The environment gives it more:
DATABASE_URL a PostgreSQL, REDIS_URL and MEMCACHED_SERVERS caches that the workers share.
"""

import os
from typing import Any

from prologue import App, Context, Group, HTTPError, Settings
from prologue.cache import (
    CacheOptions,
    InMemoryCache,
    MemcachedCache,
    MultiLevelCache,
    RedisCache,
    init_cache,
)
from prologue.db import init_connection_pool
from prologue.errors import CacheUnavailableError
from prologue.http_cache import cache_middleware

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///catalogue.db")
MEMCACHED_SERVERS = os.environ.get("MEMCACHED_SERVERS", "").replace(",", " ").split()
REDIS_URL = os.environ.get("REDIS_URL", "")

COLUMNS = "id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER"
PRODUCTS = [(1, "green tea", "tea", 350), (2, "black tea", "tea", 300), (3, "espresso", "coffee", 420)]

app = App(Settings(app_name="catalogue"))

# -- The pool: connections to the database. None is opened before a worker needs it. --

init_connection_pool(app, DATABASE_URL, max_connections=8, connection_timeout=5.0)
ON_SQLITE = DATABASE_URL.startswith("sqlite:")


def query(connection: Any, sql: str, *values: object) -> Any:
    """Run a statement: the drivers differ in how they mark a value."""
    return connection.execute(sql if ON_SQLITE else sql.replace("?", "%s"), values)


@app.on_startup
def create_tables() -> None:
    with app.resources["connection_pool"].connection() as connection:
        if not ON_SQLITE:
            query(connection, "SELECT pg_advisory_xact_lock(1)")  # both workers start now
        query(connection, f"CREATE TABLE IF NOT EXISTS products ({COLUMNS})")
        for product in PRODUCTS:
            query(connection, "INSERT INTO products VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", *product)


# -- The cache: levels, from the nearest to the one that decides. No socket is opened here either. --

levels: list[Any] = [InMemoryCache(max_entries=10_000)]
if MEMCACHED_SERVERS:
    levels.append(MemcachedCache(*MEMCACHED_SERVERS, namespace="catalogue", name="memcached"))
if REDIS_URL:
    levels.append(RedisCache(REDIS_URL, namespace="catalogue", name="redis"))

# Through Redis the workers tell each other at once what has changed. Without it they do not, so nothing lives
# longer than two seconds: that is how long a worker may show what another one has changed.
LIFE = 300 if REDIS_URL else 2
cache = MultiLevelCache(
    *levels,
    max_age=2,  # while Redis is gone, memory is believed so long
    options=CacheOptions(ttl=LIFE, stale=3600, throttle=2),  # and old values, while the database is
)
init_cache(app, cache)

# -- The HTTP cache: whole responses, kept in the same cache under the same tags. --

pages = cache_middleware(cache)


def name_worker(ctx: Context) -> None:
    """Run for every request, before the HTTP cache: that a response comes from there changes nothing."""
    ctx.next()
    ctx.response.headers["X-Worker"] = str(os.getpid())


app.use(name_worker, pages)

# -- The lazy resource: an index of the words in names, made by the first search, once in each worker. --


def load_words() -> dict[str, list[int]]:
    words: dict[str, list[int]] = {}
    with app.resources["connection_pool"].connection() as connection:
        for number, name in query(connection, "SELECT id, name FROM products ORDER BY id"):
            for word in name.split():
                words.setdefault(word, []).append(number)
    return words


app.lazy("words", load_words)

# -- The routes: in the trie /products/1 is a number and /products/tea a word, whichever comes first here. --

api = Group(app, "/api")
products = Group(app, "/products", parent=api)


@products.get("/{id:int}", name="product")
def product(ctx: Context) -> dict[str, Any]:
    """A value of the cache: read from the database once, however many ask for it at the same time."""
    number = ctx.get_path_params("id", 0)

    def load() -> Any:
        with ctx.connection() as connection:
            return query(connection, "SELECT name, price FROM products WHERE id = ?", number).fetchone()

    found = cache.get_or_set(f"product:{number}", load, tags=(f"product-{number}",))
    if found is None:
        raise HTTPError(404, f"no product {number}")
    return {"id": number, "name": found[0], "price": found[1]}


@products.get("/{word}")
def search(ctx: Context) -> dict[str, list[str]]:
    numbers = app.resources["words"].get(ctx.get_path_params("word"), [])
    return {"products": [ctx.url_for("product", id=number) for number in numbers]}


@api.get("/categories/{name}")
def category(ctx: Context) -> dict[str, Any]:
    """A response that the HTTP cache keeps, longer while the database is gone; browsers always ask."""
    name = ctx.get_path_params("name", "")
    with ctx.connection() as connection:
        sql = "SELECT name, price FROM products WHERE category = ? ORDER BY name"
        rows = query(connection, sql, name).fetchall()
    if not rows:
        raise HTTPError(404, f"no category {name}")
    ctx.cache.control(public=True, max_age=0, s_maxage=LIFE, stale_if_error=3600)
    ctx.cache.tag(f"category-{name}")
    return dict(rows)


@products.post("/{id:int}/price")
def change_price(ctx: Context) -> dict[str, Any]:
    """Write, then void what was made of it in every worker: one value, and one response."""
    number, price = ctx.get_path_params("id", 0), ctx.get_form_params("price", 0)
    if not 0 < price < 1_000_000:
        raise HTTPError(400, "price: give cents, from 1 to 999999")
    with ctx.connection() as connection:
        sql = "UPDATE products SET price = ? WHERE id = ? RETURNING category"
        row = query(connection, sql, price, number).fetchone()
    if row is None:
        raise HTTPError(404, f"no product {number}")
    seen = "now" if REDIS_URL else "within two seconds"
    try:
        pages.purge_tags(f"product-{number}", f"category-{row[0]}")
    except CacheUnavailableError:
        seen = "within two seconds"  # the site goes on; what the shared cache has missed is made up for
    return {"price": price, "seen by every worker": seen}


# SQLite has 64 bits for a number.
products.register_error_handler(OverflowError, lambda ctx, error: ("no product has such a number", 404))


@app.get("/")
def start(ctx: Context) -> str:
    paths = ("/api/products/1", "/api/products/tea", "/api/categories/tea", "/engines")
    return "<h1>Catalogue</h1>\n" + "".join(f'<p><a href="{path}">{path}</a></p>\n' for path in paths)


@app.get("/engines")
def engines(ctx: Context) -> dict[str, Any]:
    """What the engines of this worker have done so far."""
    levels = {level.name: {"hits": level.hits, "misses": level.misses} for level in cache.stats().levels}
    return {"pool": repr(app.resources["connection_pool"]), "cache": levels}


if __name__ == "__main__":
    app.run(workers=2)
