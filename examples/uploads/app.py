"""Uploads: a form with a file, bounded, saved under a safe name, and downloaded again."""

import shutil
import tempfile
from html import escape
from pathlib import Path

from prologue import App, Context, Limits, Response, Settings, redirect

app = App(Settings(app_name="uploads"))

FORM = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Uploads</title></head>
<body>
<h1>Uploads</h1>
<form method="post" action="/files" enctype="multipart/form-data">
<p><input type="file" name="file"> <button>Send</button>, 1 MB at the most</p>
</form>
<ul>{files}</ul>
</body>
</html>
"""

# One process serves this example. Several need one directory that they share, and its path in the settings.
app.lazy("directory", lambda: Path(tempfile.mkdtemp(prefix="uploads-")), close=shutil.rmtree)


@app.get("/", name="index")
def index(ctx: Context) -> str:
    names = sorted(path.name for path in app.resources["directory"].iterdir())
    items = (f'<li><a href="{ctx.url_for("download", name=name)}">{escape(name)}</a></li>' for name in names)
    return FORM.format(files="".join(items))


# The file itself is streamed to disk when it is large; the limits bound what one request may send and hold.
@app.post("/files", limits=Limits(body_size=1_000_000, form_memory_size=10_000, form_parts=5))
def upload(ctx: Context) -> Response | tuple[str, int]:
    file = ctx.get_upload_file("file")
    try:
        file.save(app.resources["directory"])
    except FileExistsError:
        return f"There is a file {escape(file.filename)} already.", 409
    return redirect(ctx.url_for("index"), 303)


@app.get("/files/{name}", name="download")
def download(ctx: Context) -> Response:
    name = ctx.get_path_params("name")
    # As an attachment: a page that somebody uploaded must not run as one of ours.
    return ctx.static_file_response(name, app.resources["directory"], download_name=name)


if __name__ == "__main__":
    app.run()
