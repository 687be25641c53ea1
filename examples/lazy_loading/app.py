"""What is expensive is loaded when it is first needed, once, whatever the number of threads that ask."""

import threading

from prologue import App, Context, Settings, lazy_property

app = App(Settings(app_name="lazy_loading"))

#: What has been loaded, in order, for the page that shows it.
loaded: list[str] = []


def load_index() -> dict[str, list[int]]:
    """Stand for something slow: a model, a big file, a connection."""
    loaded.append("index")
    index: dict[str, list[int]] = {}
    for place, word in enumerate(["reduce", "magic", "reduce", "surprise"]):
        index.setdefault(word, []).append(place)
    return index


# Nothing is loaded here: importing an application opens nothing, so that a server can fork it first.
app.lazy("index", load_index, close=lambda index: index.clear())


class Report:
    """An object with an attribute that is computed on first use."""

    @lazy_property
    def summary(self) -> str:
        loaded.append("summary")
        return f"{len(app.resources['index'])} words"


report = Report()


@app.get("/")
def state(ctx: Context) -> dict[str, object]:
    return {"loaded": loaded, "thread": threading.current_thread().name}


@app.get("/words/{word}")
def find(ctx: Context) -> dict[str, object]:
    return {"places": app.resources["index"].get(ctx.get_path_params("word"), [])}


@app.get("/summary")
def summary(ctx: Context) -> str:
    return report.summary


if __name__ == "__main__":
    app.run()
