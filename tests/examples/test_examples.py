"""Every example runs: each is called through WebTest, which checks the protocol."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from prologue.errors import SettingsError
from tests.concurrency import together
from tests.servers import Postgres

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    """Import an example anew, so that no test sees what another has left in it."""
    return importlib.reload(importlib.import_module(f"examples.{name}.app"))


def client_of(application: Callable[..., Any]) -> TestApp:
    return TestApp(application, lint=True)


def test_every_example_has_a_test() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith("_")}
    tests = {name.removeprefix("test_").partition("__")[0] for name in globals() if name.startswith("test_")}
    assert folders - tests == set()
    assert all((EXAMPLES / folder / "app.py").is_file() for folder in folders)


def test_hello() -> None:
    client = client_of(example("hello").app)
    start = client.get("/")
    for link in ("World", "/square/12", "/echo"):
        assert start.click(href=link).status_int == 200
    assert start.click(href="/square/12").json == {"number": 12, "square": 144}
    assert start.click(href="/echo").json == {"words": ["tea", "чай"]}
    form = start.form
    form["name"] = "<World>"
    assert "Hello, &lt;World&gt;!" in form.submit().text
    for path in ("/nowhere", "/square/twelve"):
        missing = client.get(path, status=404)
        assert f"<code>{path}</code> is not a route" in missing.text
        assert missing.click(href="^/$").status_int == 200


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/users/me", {"route": "text", "user": "/users/1"}),
        ("/users/42", {"route": "a typed parameter", "id": 42}),
        ("/img-7.png", {"route": "text around a parameter", "n": 7}),
        ("/img-7.jpg", {"route": "a parameter", "name": "img-7.jpg"}),
        ("/about", {"route": "a parameter", "name": "about"}),
        ("/files/2026/report.pdf", {"route": "the rest of the path", "rest": "2026/report.pdf"}),
    ],
)
def test_optimized_routing(path: str, answer: dict[str, object]) -> None:
    assert client_of(example("optimized_routing").app).get(path).json == answer


def test_optimized_routing__lists_its_routes_and_knows_no_others() -> None:
    client = client_of(example("optimized_routing").app)
    assert len(client.get("/").json["routes"]) == 6
    client.get("/users/me/more", status=404)


def test_lazy_loading() -> None:
    module = example("lazy_loading")
    client = client_of(module.app)
    assert client.get("/").json["loaded"] == []
    threads = [threading.Thread(target=client_of(module.app).get, args=("/summary",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("/summary").text == "3 words"
    assert client.get("/words/reduce").json == {"places": [0, 2]}
    assert client.get("/").json["loaded"] == ["summary", "index"]


def test_groups() -> None:
    client = client_of(example("groups").app)
    assert "X-Api-Version" not in client.get("/").headers
    answer = client.get("/api/articles/7")
    assert (answer.json, answer.headers["X-Api-Version"]) == ({"id": 7}, "1")
    token = {"Authorization": "Bearer secret-of-the-editor"}
    assert client.get("/api/admin/whoami", headers=token).json == {"user": "editor"}


def test_groups__errors_under_api_are_json() -> None:
    client = client_of(example("groups").app)
    assert client.get("/api/articles/700", status=404).json == {"error": "no article 700"}
    assert client.get("/api/nowhere", status=404).json == {"error": "no such address"}
    refused = client.get("/api/admin/whoami", status=401)
    assert (refused.json, refused.headers["WWW-Authenticate"]) == ({"error": "a token is needed"}, "Bearer")
    assert client.get("/nowhere", status=404).content_type == "text/html"


def test_uploads() -> None:
    module = example("uploads")
    client = client_of(module.app)
    client.get("/files/tea.txt", status=404)
    sent = client.post("/files", upload_files=[("file", "../../tea.txt", b"one cup")], status=303)
    assert "tea.txt" in sent.follow().text
    assert [path.name for path in module.app.resources["directory"].iterdir()] == ["tea.txt"]
    file = client.get("/files/tea.txt")
    assert file.body == b"one cup"
    assert file.headers["Content-Disposition"] == 'attachment; filename="tea.txt"'
    client.post("/files", upload_files=[("file", "tea.txt", b"another")], status=409)
    client.post("/files", upload_files=[("file", "large.bin", bytes(1_000_001))], status=413)
    client.post("/files", {"text": "no file"}, status=400)
    directory = module.app.resources["directory"]
    module.app.lifecycle.shutdown()
    assert not directory.exists()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """SQLite in an empty directory, as by default; or an empty PostgreSQL in DATABASE_URL."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        yield
        return
    with Postgres(tmp_path) as server:
        monkeypatch.setenv("DATABASE_URL", server.url)
        yield


def test_connection_pool(database: None) -> None:
    app = example("connection_pool").app
    client = client_of(app)
    assert client.get("/users/1").json == {"id": 1, "name": "Reader", "credit": 100}
    for missing in ("/users/3", "/users/x"):
        client.get(missing, status=404)

    assert client.post_json("/orders", {"sender": 1, "receiver": 2, "amount": 30}).json == {"done": "yes"}
    for sender, receiver in ((2, 1), (1, 3)):
        order = {"sender": sender, "receiver": receiver, "amount": 60}
        assert "cannot take part" in client.post_json("/orders", order, status=409).json["error"]
    assert [client.get(f"/users/{number}").json["credit"] for number in (1, 2)] == [70, 50]
    assert client.get("/orders.csv").text == "1,2,30\n2,1,60\n1,3,60\n"

    assert "0 leased, 1 idle, 0 waiting of 8" in client.get("/pool").json["pool"]
    assert len(set(together(4, lambda _: client_of(app).get("/users/2").text))) == 1
    app.lifecycle.shutdown()
    client.get("/users/1", status=503)


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROLOGUE", "PROLOGUE_PORT", "PROLOGUE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    shown = client_of(example("settings").app).get("/").json
    assert shown == {
        "app_name": "shop",
        "address": "127.0.0.1",
        "port": 8081,
        "threads": 8,
        "currency": "EUR",
        "page_size": 20,
        "language": "bg",
    }


def test_settings__the_environment_selects_the_file_and_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROLOGUE", "production")
    monkeypatch.setenv("PROLOGUE_PORT", "9000")
    client = client_of(example("settings").app)
    shown = client.get("/", headers={"Host": "shop.example"}).json
    assert (shown["address"], shown["port"], shown["page_size"]) == ("0.0.0.0", 9000, 50)
    client.get("/", headers={"Host": "elsewhere.example"}, status=400)
    monkeypatch.setenv("PROLOGUE_HOST", "x")
    with pytest.raises(SettingsError, match="PROLOGUE_HOST"):
        example("settings")


def test_embed() -> None:
    module = importlib.import_module("examples.embed.app")  # Django is configured once for a process
    ours = client_of(module.app)
    assert ours.get("/users/7").json == {"id": 7, "url": "/users/1"}
    assert ours.get("/legacy/a/b").text == "the old application, at /legacy, is asked for /a/b"
    for embedding, name in ((module.in_flask, "Flask"), (module.in_django, "Django")):
        client = client_of(embedding)
        assert client.get("/").text == name
        assert client.get("/prologue/users/7").json == {"id": 7, "url": "/prologue/users/1"}
        assert "/prologue/legacy, is asked for /x" in client.get("/prologue/legacy/x").text
        client.get("/prologue/nowhere", status=404)


def test_caching_proxy() -> None:
    # What it forwards, and how, is in test_caching_proxy.py; nobody listens at its default origin.
    example("caching_proxy")


def test_caching() -> None:
    client = client_of(example("caching").app)
    assert [client.get("/reports/sales").json["made"] for _ in range(2)] == [1, 1]
    assert client.get("/reports/costs").json["made"] == 2
    assert client.post("/reports/sales/refresh").json["made"] == 3
    assert client.get("/reports/sales").json["made"] == 3
    assert client.put("/notes/tea", {"text": "green", "ttl": "0"}).json == {"kept": 0.0}
    assert client.get("/notes/tea").json == {"text": "green"}
    assert [client.delete("/notes/tea").json["deleted"] for _ in range(2)] == [True, False]
    assert client.get("/notes/tea", status=404).json == {"text": None}
    assert client.delete("/notes").json == {"entries": 0}


@pytest.mark.parametrize(
    ("caches", "ttl"),
    [({}, 2), ({"REDIS_URL": "redis://127.0.0.1:1/0", "MEMCACHED_SERVERS": "127.0.0.1:1,127.0.0.1:2"}, 300)],
    ids=["memory alone", "shared caches that are down"],
)
def test_catalogue(caches: dict[str, str], ttl: int, database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "MEMCACHED_SERVERS"):
        monkeypatch.setenv(name, caches.get(name, ""))
    module = example("catalogue")
    client = client_of(module.app)
    for link in ("products/1", "products/tea", "categories/tea", "engines"):
        assert client.get("/").click(href=link).status_int == 200
    assert client.get("/api/products/1").json == {"id": 1, "name": "green tea", "price": 350}
    assert client.get("/api/products/black").json == {"products": ["/api/products/2"]}
    assert client.get("/api/products/nothing").json == {"products": []}
    page = client.get("/api/categories/tea")
    assert page.json == {"green tea": 350, "black tea": 300}
    assert page.headers["Cache-Control"] == f"public, max-age=0, s-maxage={ttl}, stale-if-error=3600"
    for missing in ("/api/products/9", f"/api/products/{10**19}", "/api/categories/shoes"):
        client.get(missing, status=404)
    for number, price, status in ((1, "0", 400), (1, "", 400), (9, "400", 404)):
        client.post(f"/api/products/{number}/price", {"price": price}, status=status)

    changed = {"price": 400, "seen by every worker": "within two seconds"}
    assert client.post("/api/products/1/price", {"price": "400"}).json == changed
    assert client.get("/api/products/1").json["price"] == 400
    assert client.get("/api/categories/tea").json == {"green tea": 400, "black tea": 300}
    module.app.lifecycle.shutdown()
