"""Print the list of NumPy functions that derivatives go through, as Markdown for the documentation.

    python tools/supported.py > docs/supported-functions.md
"""

from fastgd._supported import as_markdown

if __name__ == "__main__":
    print(f"# NumPy's functions, and whether derivatives go through them\n\n{as_markdown()}", end="")
