"""Find words that read like a translation; exit 1 if there are any.

The list has words that this project's prose once used too often. A line that needs one ends with
``# words: skip`` or ``<!-- words: skip -->``.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Each with its replacement.
WORDS = {
    r"\bbehind\b": "after",
    r"\banew\b": "again",
    r"\bbeside\b": "next to, in addition",
    r"\bails?\b": "what is wrong with",
    r"\bso many\b": "this many, or say how many",
    r"(?<!here )\b(?:is|are|was|were) no (?!longer|more|smaller|larger|slower|faster)": "is not a",
    r"\bstands? for\b": "means, is",
    r"\bcannot be had\b": "is unavailable",
    r"(?:^|[.!?] )Of [a-z]": "put the subject first",
    r"\bwhoever\b": "those who, or name who",
    r"\bamid\b": "during",
    r"\bone's own\b": "your own, a user's own",
    r"\bgo(?:es)? on\b": "continues",
    r"\bdo as well\b": "also work",
    r"\bgives? back\b": "returns, restores",
}
PLACES = ("fastcnn", "bench", "scripts", "docs", "README.md", "CHANGELOG.md")
SKIP = "words: skip"


def found() -> Iterator[str]:
    """Location, word and advice of each finding."""
    patterns = [
        (re.compile(word, 0 if "Of " in word else re.IGNORECASE), advice)
        for word, advice in WORDS.items()
    ]
    for place in PLACES:
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.suffix not in (".py", ".md") or file == Path(__file__).resolve():
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                if SKIP in line:
                    continue
                text = line.lstrip(" #*-\"'")
                for pattern, advice in patterns:
                    if match := pattern.search(text):
                        where = f"{file.relative_to(ROOT)}:{number}"
                        yield f"{where}: {match[0].strip()!r} (better: {advice}): {text.strip()}"


def main() -> None:
    """Print all findings."""
    lines = list(found())
    print("\n".join(lines))
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
