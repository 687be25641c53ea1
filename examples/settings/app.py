"""Settings from a file, a .env file and the environment; the variable PROLOGUE selects the file.

Try it: ``PROLOGUE=production PROLOGUE_HOST=x python app.py`` names the variable that is no setting.
"""

from pathlib import Path

from prologue import App, Context, Settings

HERE = Path(__file__).parent

# Typed and checked now: a wrong value stops the start, not a request at night.
app = App(Settings.load(HERE / ".config", dotenv=HERE / ".env"))


@app.get("/")
def show(ctx: Context) -> dict[str, object]:
    settings = app.settings
    return {
        "app_name": settings.app_name,
        "address": settings.address,
        "port": settings.port,
        "threads": settings.threads,
        "currency": settings["currency"],
        "page_size": settings.get("page_size", 10),
        "language": settings.get("language", "bg"),
    }


if __name__ == "__main__":
    app.run()
