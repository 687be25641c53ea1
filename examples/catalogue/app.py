"""A product catalogue in several processes: memory over Redis, invalidated by tags, even without Redis.

REDIS_URL=redis://127.0.0.1:6379/0 gunicorn -w 2 -k gthread --threads 4 examples.catalogue.app:app
"""

import os

from prologue import App, Context, HTTPError, Settings
from prologue.cache import InMemoryCache, MultiLevelCache, RedisCache, init_cache
from prologue.db import ConnectionPool
from prologue.errors import CacheUnavailableError

app = App(Settings(app_name="catalogue"))

database = ConnectionPool.from_url(f"sqlite:///{os.environ.get('CATALOGUE', 'catalogue.db')}")
app.resources.add_ready("database", database, close=ConnectionPool.close)

# Nothing is connected yet, and no thread started: gunicorn may load this before it forks its workers.
cache = MultiLevelCache(
    InMemoryCache(max_entries=10_000),
    RedisCache(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), namespace="catalogue"),
)
init_cache(app, cache)

PRODUCTS = [(1, "green tea", "tea", 350), (2, "black tea", "tea", 300), (3, "espresso", "coffee", 420)]


@app.on_startup
def fill() -> None:
    with database.connection() as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS products"
            " (id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER)"
        )
        connection.executemany("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?)", PRODUCTS)


def load_product(number: int) -> dict[str, object] | None:
    query = "SELECT id, name, category, price FROM products WHERE id = ?"
    with database.connection() as connection:
        row = connection.execute(query, (number,)).fetchone()
    return None if row is None else dict(zip(("id", "name", "category", "price"), row, strict=True))


def load_category(name: str) -> list[tuple[str, int]]:
    query = "SELECT name, price FROM products WHERE category = ? ORDER BY name"
    with database.connection() as connection:
        return list(connection.execute(query, (name,)))


@app.get("/products/{id:int}")
def product(ctx: Context) -> dict[str, object]:
    number = ctx.get_path_params("id", 0)
    found = cache.get_or_set(
        f"product:{number}", lambda: load_product(number), ttl=300, tags=(f"product {number}",)
    )
    if found is None:
        raise HTTPError(404)
    return {**found, "worker": os.getpid()}


@app.get("/categories/{name}")
def category(ctx: Context) -> dict[str, object]:
    name = ctx.get_path_params("name", "")
    found = cache.get_or_set(
        f"category:{name}", lambda: load_category(name), ttl=300, tags=(f"category {name}",)
    )
    return {"products": found, "worker": os.getpid()}


@app.post("/products/{id:int}/price")
def change_price(ctx: Context) -> dict[str, object]:
    """Change a price, and void what was made of it in every worker: the product, and its category."""
    number, price = ctx.get_path_params("id", 0), ctx.get_form_params("price", 0)
    found = load_product(number)
    if found is None:
        raise HTTPError(404)
    with database.connection() as connection:
        connection.execute("UPDATE products SET price = ? WHERE id = ?", (price, number))
    try:
        cache.invalidate_tags(f"product {number}", f"category {found['category']}")
    except CacheUnavailableError:
        # Done in this worker, and made up for in the others as soon as Redis answers: the site goes on.
        return {"price": price, "seen by all": False}
    return {"price": price, "seen by all": True}


if __name__ == "__main__":
    app.run(workers=2)
