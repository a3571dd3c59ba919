"""Builds the notebooks of the tutorial scripts, runs them, keeps the outputs.

    python tutorials/build.py                   all of them
    python tutorials/build.py 01_quickstart.py  one

What libraries log is left out.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

LOGGED = re.compile(r"^(INFO|WARNING):tensorflow:.*\n?", re.MULTILINE)
FOLDER = Path(__file__).resolve().parent


def build(script):
    notebook = jupytext.read(script)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3")
    client.execute(cwd=FOLDER)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # Times of day.
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    nbformat.write(notebook, script.with_suffix(".ipynb"))


def merged(outputs):
    """Drops what libraries log, joins the pieces of standard output."""
    kept = []
    for output in outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name == "stdout":
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            # TensorFlow logs here in a notebook, paths of the machine too.
            output.text = re.sub(LOGGED, "", output.text).lstrip("\n")
    return [o for o in kept if o.output_type != "stream" or o.text]


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(FOLDER.glob("[0-9]*.py")):
        build(FOLDER / name)
